"""A base model: its parameters, loading, tokenizer, tokens, predictions."""
