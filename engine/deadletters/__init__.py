"""Records that could not be used: kept with the reason, limited, listed and sent again."""
