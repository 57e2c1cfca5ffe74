"""Who may in: TLS, and SASL with PLAIN and SCRAM. Imported only when the listener is secured."""
