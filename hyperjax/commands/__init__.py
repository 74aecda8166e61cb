"""Commands that take options rather than gin files: adapt, predict, adapter."""
