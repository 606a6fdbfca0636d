"""Pretraining and fine-tuning over folds of whole clips, as the table of the USCL paper has it."""
