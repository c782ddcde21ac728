"""The frameworks that ask and score: lmms-eval and VLMEvalKit."""
