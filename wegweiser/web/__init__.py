"""The server of HTTP and websockets: daphne, with bounds on what one client may cost."""
