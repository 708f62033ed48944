"""The *sockets* limit: the client's own sockets keep to the budget."""
