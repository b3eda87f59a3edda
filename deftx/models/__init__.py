"""A base model: its parameters, loading, tokenizer, predictions."""
