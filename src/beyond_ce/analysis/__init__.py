"""Exact results that measurements on models are compared with."""
