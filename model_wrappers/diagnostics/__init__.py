"""What masks change inside a model, without labels: distributions, attention, features."""
