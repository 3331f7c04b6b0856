"""Policies: named, frozen compression choices, and the routes that pick one per request."""
