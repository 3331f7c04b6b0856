"""Compression, pure: tagged turns and scores in, kept spans out.  No socket, clock or torch."""
