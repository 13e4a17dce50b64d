"""What a run is asked to do: sections, where values come from, what they must agree on."""
