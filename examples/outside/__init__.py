"""Soft-prompt bridges: a frozen reader model hands what it read to a frozen answerer as K soft prompts."""
