"""`hyperjax report`: what runs and evaluations came to, on one page."""
