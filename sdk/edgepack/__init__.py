"""Convert, quantize, prove, encrypt and sign models for edge devices, one bundle per device profile."""

__version__ = "0.1.0"
