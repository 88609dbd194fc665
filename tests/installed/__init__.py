"""The wheel as strangers get it: built, installed into an environment without a checkout, and used there."""
