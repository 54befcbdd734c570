"""The official tables, read once into arrays."""
