"""MGM (Mini-Gemini)."""
