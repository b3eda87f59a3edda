"""A task of sentences in words, each word of one class: parts of speech, named entities."""
