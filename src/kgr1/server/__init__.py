"""A graph over HTTP: the protocol (``wire``), the server (``app``, ``serve``) and the client (``client``)."""
