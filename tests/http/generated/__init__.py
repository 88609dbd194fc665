"""What an app does with a client that was generated from our description, a file a language."""
