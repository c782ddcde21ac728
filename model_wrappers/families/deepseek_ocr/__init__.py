"""DeepSeek-OCR and Unlimited-OCR."""
