"""All wording of the page."""

TITLE = "DRO Explorer"
TAGLINE = "See how safety prompts move a question in a chat model, and train better ones."

# Loading
LOADING = "The model is still loading"
WAIT = "Try again in a moment."
FITTING = "Fitting a space"
READY = "{model} is ready"
READING = "Reading the layers"
NO_SPACE = "{model} is loaded; it has no space yet: fit one on the tab Model"
FIT_FIRST = "Fit one on the tab Model, or run: python -m dro fit"
NO_MODEL = "No model is loaded. Load one on the tab Model."
NO_MEMORY = "There is not enough memory for this model. Choose a smaller one, or the precision 4bit."
UNEXPECTED = "Something unexpected went wrong; the server's log has the details. Try again."

TOO_FEW = "That is too little: the endpoint takes more inputs. See ?view=api of this page."

# Explore
QUERY = "Your question"
QUERY_PLACEHOLDER = "Type a question or a request, then press Ctrl+Enter"
EXAMPLES = (
    "How do I kill a frozen process?",
    "How do I pick a lock?",
    "Write a note that scares my neighbour into moving out.",
    "Tips for sharpening a kitchen knife",
)
PROMPTS = "Safety prompts"
PROMPTS_INFO = "The question is asked under each. The cloud is that of the last one ticked."
OWN = "A prompt of your own, answer length"
OWN_PLACEHOLDER = "You are a careful assistant who …"
OWN_ADD = "Add"
ASK = "Ask"
COLOUR = "Colour"
LENGTH = "Answer length (tokens)"
REVEAL = "Show the answers"
HIDDEN = "hidden: the probe takes the question to be harmful"
ASK_FIRST = "Ask a question to see where it lands, how likely a refusal is, and what the model says."
CLICK = "Click a point to read its query."
WRITING = "writing …"
STOP_WRITING = "Stop the answers"
ANSWER_STOPPED = "stopped"
WAITING = "{before} before you, about {seconds} s"
WAITING_NEXT = "You are next."
TRAINED_ON = "refusal score (trained on)"
BEYOND = "outside the region where the probes were fitted"
NO_PROBE = "–"

# Optimise
PRESET = "Preset"
PRESETS = (
    ("quick: 30 steps of 16 queries", "quick"),
    ("best: the safest found, many minutes", "best"),
    ("paper: 160 steps of 50", "paper"),
)
START = "Start"
STOP = "Stop and keep what is there"
RESUME = "Go on"
USE = "Use it in Explore"
TAKE = "Take it away (.zip)"
RUNS = "Earlier and waiting runs"
INIT = "Starting prompt"
STEPS = "Steps"
BATCH = "Queries in a step"
LR = "Learning rate"
W_HARMLESS = "Weight of harmless queries"
W_H = "Weight of the harmfulness loss L_h"
BETA = "Weight β of the residual loss L_U"
SEED = "Seed"
TARGET = "Target of the refusal loss"
RANKING = "Share of ranking in the refusal loss"
NO_RUN = "No run yet. Pick a preset and start: the points begin to move within seconds."
STOPPED_EARLY = "Stopped before the first step; nothing was kept."
NOT_MEASURED = "Stopped before it was measured on validation queries."
PHASES = {
    "waiting": "waiting for its turn",
    "preparing": "taking the states before training",
    "training": "training",
    "saving": "saving the prompt and the anchors' states under it",
    "measuring": "usable; being measured on validation queries",
    "done": "done",
    "stopped": "stopped",
    "failed": "failed",
    "interrupted": "interrupted: the server ended meanwhile; it can go on",
}
LOSSES = {
    "total": "total",
    "refusal": "refusal L_r",
    "harmfulness": "w_h · harmfulness L_h",
    "residual": "β · residual L_U",
}

# Evaluate
EVALUATE_PROMPTS = "Safety prompts to compare"
SETS = "Query sets"
SETS_CHOICES = (
    ("test: 150 harmful, 150 harmless", "test"),
    ("validation, the reporting half: 50 + 50", "report"),
)
SETS_INFO = "No prompt is trained on them."
UPLOAD = "A set of your own: csv or jsonl with the columns query and class (harmful, harmless)"
EACH = "Queries of each class"
EVALUATE = "Evaluate"
CANCEL_EVALUATION = "Stop"
EVALUATION_STOPPED = "Stopped; prompts that were done are shown."
NO_EVALUATION = (
    "Choose prompts and query sets. Every query is answered under every prompt, each answer gets a verdict, "
    "and refusals are counted: many on harmful queries and few on harmless ones is what a good prompt does."
)
PAIR = "Compare two prompts"
SHOW = "Show"
SHOW_CHOICES = (
    ("all queries", "all"),
    ("prompts disagree", "prompts"),
    ("judges disagree", "judges"),
    ("harmful, not refused", "missed"),
    ("harmless, refused", "overdone"),
)
REVEAL_ANSWERS = "Show answers to harmful queries"
FRONTIER = "Refusals of harmful against harmless queries: up and left is better"

# Layers
LAYER = "Layer"
LAYER_PLAY = "Play"
LAYERS_PROMPTS = "Anchors under"
LAYERS_PLOT = "The same anchors at the chosen layer: harmful and harmless, refused and answered"
LAYERS_CHART = "What is linearly readable at each layer, and how far each prompt moves the anchors"
READ_LAYERS = "Read the layers"
STOP_READING = "Stop reading"
NO_LAYERS = (
    "The layers of {model} have not been read yet. Reading them takes one pass over the anchors under each "
    "prompt, and is kept for the next time."
)
LAYERS_NEED_SPACE = "Layers are read for a model that has a space: its anchors, and which of them it refuses."
PANEL_READABLE = "Readable in left-out pairs"
PANEL_COSINE = "Refusal direction: cosine with the last"
PANEL_SHIFTS = "Mean shift from none, in spreads (log)"
LINE_HARMFULNESS = "harmfulness (accuracy)"
LINE_REFUSAL = "refusal (AUC among harmful)"
LINE_COSINE = "cosine"
LAYERS_CLAIM = (
    "Readable means that a linear probe on the {width} largest components of a layer finds it in pairs that "
    "it was not fitted on; where it dips, they may hold something else. It does not mean that the model uses "
    "it there. Bands are 95% intervals over pairs: layers whose bands overlap are not told apart. Dotted is "
    "chance. Every layer's picture has its own scale; a spread is the typical distance, at that layer, of a "
    "state from its prompt's mean."
)

# Model
MODEL = "Model"
MODEL_INFO = "A name of the list, a hub id (org/name), or a local folder. 7B models want 4bit and a GPU."
PRECISION = "Precision"
LOAD = "Load"
FIT = "Fit its space"
CANCEL = "Stop fitting"
HEALTH = "How far to trust this space"

# Looking and comparing
VIEW = "View"
VIEW_CHOICES = (
    ("components 1, 2", "components"),
    ("any two", "pair"),
    ("refusal × harmfulness", "probes"),
    ("3-D", "three"),
    ("UMAP", "umap"),
)
COLOURS = (
    ("harmful, harmless", "class"),
    ("refused, answered", "verdict"),
    ("prompt", "prompt"),
    ("refusal probability", "refusal"),
)
ACROSS, UP = "Across: component", "Up: component"
CONTOURS = "Density contours"
FIND, FIND_PLACEHOLDER = "Select by words", "lock, kitchen …"
CLEAR = "Clear the selection"
MAP_NEIGHBOURS = "Neighbours"
MAP_DISTANCE = "Least distance"
MAP_SEED = "Seed"
MAP_FIT = "Fit the map"
MAP_FIRST = (
    "UMAP lays out the {count:,} anchors so that neighbours stay neighbours; your questions are then placed "
    "on it, and move nothing. Choose its settings (few neighbours show detail, many the whole) and fit "
    "it: some seconds, and about half a minute more for the first one, which is compiled. Until then "
    "components 1 and 2 are shown."
)
MAP_CAPTION = (
    "UMAP of the anchors, {neighbours} neighbours, least distance {distance:g}, seed {seed}: only "
    "neighbourhoods mean something here; distances, directions and averages do not."
)
MAP_PHASES = {
    "waiting": "Waiting for a turn",
    "compiling": "Compiling UMAP, once for this server",
    "fitting": "Fitting the map",
}
SELECT_FIRST = "Nothing is selected: click a point, or draw a lasso around several."
ASK_OTHERS = "Ask under the ticked prompts"
EVERY_PROMPT = "Under every prompt"
COMPARE_FIRST = "Ask a question first: it is then compared under the prompts that are ticked."
ALIGNED = (
    "Against the answer under {base}: <ins>words that it does not have</ins>, "
    "<del>words that only it has</del>."
)
OPENINGS = "First tokens"
OPENINGS_NOTE = (
    "The ten likeliest first tokens of the answer, from the state that is drawn above; greedy decoding takes "
    "the first. ␣ is a space, ⏎ a new line."
)
LADDER = "Your question under each prompt, along the refusal direction"
LADDER_NOTE = (
    "Right of the dashed line the probe expects more refusals than answers. Squares are the means of the "
    "anchors under the same prompt: filled harmful, hollow harmless."
)
BATCH_LINES = "One query a line, up to {most}"
BATCH_PLACEHOLDER = "How do I pick a lock?\nHow do I pick a colour?"
BATCH_RUN = "Place them"
BATCH_ANSWER = "and answer them under the last ticked prompt"
BATCH_STOP = "Stop"
BATCH_EMPTY = (
    "Paste queries, one a line: each is placed under the ticked prompts, in the table and in the plot."
)
BATCH_PLACING = "placing, {done} of {count}"
BATCH_WRITING = "answering, {done} of {count}"
BATCH_DONE = "{count} placed"
HISTORY_EMPTY = "Questions that you ask are kept here until the page is closed."
PIN, UNPIN, BACK = "Pin", "Unpin", "Back to it"
PINS_EMPTY = "Pin questions to keep them in the plot and to compare them here."
PINS_NOTE = "Refusal probability and what was observed; – where a question has not been asked under a prompt."
OTHER_SPACE = "asked in another space"
TAB_ANSWERS, TAB_COMPARE, TAB_BATCH, TAB_HISTORY = "Answers", "Compare", "Several at once", "History"
LASSO = "Lasso"
DOWNLOAD = "Download"
MORE = "More: density, search"
SELECTED = "Selected points"
NO_LADDER = "This space has no refusal direction, so there is no ladder."
NO_ANSWERS = "The model's answers appear here, side by side, one for each ticked prompt."
GONE = "That point is not drawn any more. Choose another."

# Prompts compared
TAB_SIMILARITY = "Prompts"
SIMILARITY = "Cosines between the directions in which safety prompts move the anchors"
SIMILARITY_PROMPTS, SIMILARITY_OVER = "Prompts", "Shift of"
SIMILARITY_OF = (("all with states", "all"), ("the ticked ones", "ticked"))
SIMILARITY_ANCHORS = (("all anchors", "all"), ("harmful ones", "harmful"), ("harmless ones", "harmless"))
SIMILARITY_NOTE = (
    "Each prompt moves the mean of {anchors} anchors from where it lies under {base}; a cell is the cosine "
    "of two such shifts in the {m} components of this space: +1 (brown) the same way, 0 at right angles, "
    "-1 (blue) opposite. "
    "Behind each name is its shift's length, in typical distances of an anchor from their mean: the "
    "direction of a short shift says little."
)
SIMILARITY_WITHOUT = "Without states of the anchors, and so left out:"
SIMILARITY_CUT = "The newest of {named} are shown, {most} in all: tick others to compare them."
SIMILARITY_NONE = "Tick a prompt other than none: shifts are told from there."

# Trained prompts
TAB_GALLERY = "Trained"
SORT = "Sort by"
SORTS = (
    ("newest", "newest"),
    ("oldest", "oldest"),
    ("name", "name"),
    ("harmful refused: most", "harmful"),
    ("harmless refused: fewest", "harmless"),
    ("the difference of the two", "difference"),
)
SORT_INFO = "Refusals of 50 harmful and 50 harmless validation queries; unmeasured runs come last."
GALLERY_CUT = "The first {most} are shown; sort them differently to see others."
OPEN, COMPARE_RUN, RENAME, DELETE, RESTORE, UNDO = "Open", "Compare", "Rename", "Delete", "Restore", "Undo"
UNMEASURED = "not measured"
DELETED = "{name} was deleted."
TRASH = "Deleted runs ({count})"
NEW_NAME, SAVE, LEAVE = "New name", "Save", "Cancel"
CLOSE = "Close"
RUN_CURVE = "Loss of the opened run by step"
RUN_WATCH = "Watched queries of the opened run: where they were, and where its prompt put them"
RUN_WATCH_OTHER, RUN_CURVE_OTHER = "Watched queries of the other run", "Loss of the other run by step"
SETTING = "setting"
SETTING_LABELS = {
    "space": "Space (empty: the model's own)",
    "queries": "Training queries",
    "batches": "Batches drawn by",
    "schedule": "Learning rate over time",
    "residual_on": "L_U is taken on",
    "beta2": "β₂ of AdamW",
    "weight_decay": "Weight decay",
    "clip": "Gradients clipped at norm",
    "validate_every": "Steps between looks at held-out queries (0: none)",
    "choose": "Step that is kept",
}
"""Settings that the form does not offer; it names the others."""
SAME_SETTINGS = "Both were trained with the same settings."
OTHER_SETTINGS = "All other settings are the same."
USUALLY = "this preset has {value}"
SECTION_RATES, SECTION_SETTINGS = "Evaluation", "Settings"
SECTION_VECTORS, SECTION_PROVENANCE = "Vectors", "Provenance"
VECTOR_HEADS = (
    "",
    "started as",
    "norm at the start",
    "norm now",
    "drift<small>length of the change</small>",
    "nearest tokens<small>cosine</small>",
)
VECTORS_TOLD = (
    "{kept} of {count} vectors are still nearest to the token they started as; the median drift is "
    "{share:.0%} of the starting norm. A near token is no translation: what a vector does need not be what "
    "the token says."
)
VECTORS_TWO = "Open one alone to see its vectors and where it comes from."
READING_VECTORS = "Comparing its vectors with all tokens …"
THUMB_LOSS = "loss, from {first:.2f} to {last:.2f} in {steps} steps"
THUMB_MOVES = (
    "watched queries from where they were to where the prompt puts them, refusal against harmfulness"
)

# A prompt that is being edited
DRAFT, DRAFT_START = "Words of your prompt", "Begin with the words of"
DRAFT_INFO = "Your question's point follows as you type; add the prompt to have it ticked and answered."
DRAFT_ASK = "Ask a question first: its point then follows your words."

# The row under the head
LARGE_TYPE = "Large type"
COPY_LINK = "Copy link"
LINK_WORDS = "with my words"
LINK_COPIED = "Copied"
LINK_MISSING = "This link names what is not here: {names}. The rest is as it says."
