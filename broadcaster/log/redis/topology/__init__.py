"""Which server holds which key: one server, Sentinels or a cluster."""
