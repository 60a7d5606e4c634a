"""The guided tour: seven steps over recorded numbers; nothing here loads a model or knows gradio."""
