"""Result files in the official formats: written, and read back."""
