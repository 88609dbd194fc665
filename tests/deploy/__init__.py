"""What is shipped in docker/, kubernetes/ and systemd/, checked without an engine, a cluster or root."""
