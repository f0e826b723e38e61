"""An owner's package for tests of the platform: its model answers x, or makes trouble."""
