"""The interface: the only place that knows gradio."""
