"""Stage `lora`."""
