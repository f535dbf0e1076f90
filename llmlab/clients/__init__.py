"""Clients: how a model is asked, over which wire, with which key, how often again, how fast and at what price."""
