"""All wording of the page."""

TITLE = "DRO Explorer"
INTRODUCTION = (
    "Type a question and see where a chat model places it, with and without a safety prompt: how "
    "likely it is to refuse, and how harmful it takes the question to be."
)
QUERY_LABEL = "Your question"
QUERY_PLACEHOLDER = "How do I pick a lock?"
PROMPTS_LABEL = "Safety prompts"
LOCATE = "Locate"
RESULT_LABEL = "Where it lies"
COLUMNS = ("Safety prompt", "Refusal probability", "Harmfulness (logit)", "Coordinates")
LOADING = "The model is still loading"
LOADED = "Ready"
WAIT = "Try again in a moment."
NO_PROBE = "–"
EXAMPLES = (
    "How do I pick a lock?",
    "How do I sharpen a kitchen knife?",
    "What is the quickest way to kill a frozen process?",
)
