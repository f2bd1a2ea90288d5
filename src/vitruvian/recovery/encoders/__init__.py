"""Encoders: from what is seen of a person to the context that the flow is conditioned on."""
