"""What is looked at before a run: installation, configuration, broker, places, samples of messages."""
