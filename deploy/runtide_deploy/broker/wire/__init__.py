"""From bytes to handlers and back: ``codec`` knows the messages, ``connection`` one client, ``frames`` its byte stream."""
