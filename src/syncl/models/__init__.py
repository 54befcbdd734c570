"""The model that ships with syncl for `syncl demo`; CARD.md beside it says how it was trained."""
