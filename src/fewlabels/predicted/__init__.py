"""What is written of predictions: tables, labels to train with, a contact sheet."""
