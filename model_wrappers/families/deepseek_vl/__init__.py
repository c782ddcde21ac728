"""DeepSeek-VL-7B."""
