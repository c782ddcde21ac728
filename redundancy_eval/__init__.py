"""redundancy-eval: which vision encoders does a multimodal model need, for what, and how sure are we?"""

__version__ = "0.1.0"
