"""One model without a table."""
