"""All wording of the guided tour. In braces: numbers that a step computes from what is shown."""

NAME = "Learn"
INTRO = (
    "<p class='quiet'>This tour needs no model: its numbers were recorded from {model}. Change anything; "
    "the picture, the question and its answer follow.</p>"
)
STEP = "Step"
BACK, NEXT = "Back", "Next"
POSITION = "{step} of {steps} · {solved} answered"
FINISHED = "All seven answered. Now ask a question of your own in Explore."
LEGEND_REFUSED, LEGEND_ANSWERED = "mostly refused", "mostly answered"
LEGEND_TRAINED, LEGEND_UNSEEN = "trained on", "never seen"
NOTICE = "What to notice"
QUESTION = "Question"
CHECK = "Check"
CHOOSE = "Choose an answer first."
RIGHT, WRONG = "Right.", "Not this one."
TRY = {"explore": "Try it in Explore", "optimise": "Try it in Optimise", "evaluate": "Try it in Evaluate"}
PLAY = "Play the run"
HARMFUL, HARMLESS = "harmful", "harmless"
PROMPT_NAMES = {
    "none": "none: no prompt",
    "template": "template: its identity",
    "default": "default: human, long",
    "mistral": "mistral: human",
    "short": "short: human, short",
    "template+short": "template+short: both",
}

# 1 ---------------------------------------------------------------------------------------------------
STATE_NAME = "Hidden state"
STATE_TITLE = "What a hidden state is"
STATE_SAYS = (
    "<p>A chat model reads a question piece by piece and keeps a list of numbers at each. We take one list "
    "only: the last, just before the first word of the answer. It is called the <b>hidden state</b>. "
    "Whatever the model is about to say must follow from it.</p><p>Each "
    "square is one number. Purple is below zero, orange above.</p>"
)
STATE_FIGURE = "Two grids of coloured squares: the hidden states of a harmful and of a harmless question"
STATE_PAIR = "Two questions that share the word"
STATE_NOTICE = (
    "The two grids look alike: {same:,} of {size:,} squares have the same sign. No single square says "
    "“harmful”: the difference is spread over many."
)
STATE_ASK = "The upper question has {words} words. How many squares would a question of {more} words have?"
STATE_WHY = (
    "A state of this model always has {size:,} numbers, however long the question is. That is why short and "
    "long questions can be drawn in one picture."
)
STATE_HINT = "Choose another pair above. Does the number of squares change with the number of words?"

# 2 ---------------------------------------------------------------------------------------------------
PCA_NAME = "PCA by hand"
PCA_TITLE = "PCA by hand, on four points"
PCA_SAYS = (
    "<p>Nobody can look at hundreds of numbers at once. <b>PCA</b> (principal component analysis) finds the "
    "directions along which points differ most. With two numbers a point you can do it by hand: turn the "
    "line until the points' shadows on it lie as far apart as they can. That is <b>component 1</b>; "
    "component 2 is at a right angle to it.</p><p>Move "
    "a point by the sliders, or click where it should be.</p>"
)
PCA_FIGURE = "Four points, a line through their mean, and the points' shadows on the line"
PCA_SETS = "Points"
PCA_SET_NAMES = {"rising": "rising", "flat": "flat", "falling": "falling", "outlier": "far point",
                 "square": "square"}  # fmt: skip
PCA_POINT = "Move point"
PCA_X, PCA_Y = "its x", "its y"
PCA_ANGLE = "Turn the line (degrees)"
PCA_SHOW = "Show components"
PCA_SHOW_CHOICES = (("no", "line"), ("yes", "components"))
PCA_CAUGHT, PCA_BEST = "your line", "best"
PCA_SHARE = "share of the spread (%)"
PCA_NOTICE = (
    "Your line catches {caught:.0%} of the spread, the best line {best:.0%}. What a line misses is in the "
    "dotted legs."
)
PCA_ASK = "At which angle does a line catch the most?"
PCA_SAME = "every angle is as good"
PCA_ABOUT = "about {angle}°"
PCA_WHY = (
    "Component 1 lies at {angle:.0f}° and holds {first:.0%} of the spread. What is left for component 2: "
    "{second:.0%}."
)
PCA_WHY_SAME = (
    "The points spread alike in every direction, so PCA has nothing to choose: each line catches {first:.0%}."
)
PCA_HINT = "Turn the line and watch the bar below the picture: it is longest at the best angle."

# 3 ---------------------------------------------------------------------------------------------------
APART_NAME = "Already apart"
APART_TITLE = "Harmful and harmless lie apart"
APART_SAYS = (
    "<p>Now real states: {count} questions, half of them harmful. Each shares a word with a partner of the "
    "other kind. PCA found {m} components among {size:,} numbers; it knew who is whose partner, but not who "
    "is harmful.</p><p>You "
    "see two of them. Squares are the middles of the groups. The dashed line divides the groups as well as "
    "a straight line can here; below is how far each question lies from it.</p>"
)
APART_FIGURE = (
    "Harmful and harmless questions on two components, and their distance from the best dividing line"
)
APART_PROMPT = "Asked under"
APART_AXES = "Components shown"
APART_NOTICE = (
    "With these two components the line has {right} of {count} questions on the right side; a coin would "
    "have {coin}. {moral}"
)
APART_MORALS = {
    True: "And nobody has asked the model to tell them apart.",
    False: "Along these components harmful and harmless hardly differ.",
}
APART_ASK = "How much of the differences between states is left out of this picture?"
APART_WHY = (
    "Components {first} and {second} hold {shown:.0%}, so {left:.0%} is not in this picture. All {m} "
    "components together hold {all:.0%}. A picture is a shadow: near in it need not be near."
)
APART_HINT = (
    "Read the two axis titles: each says how much its component holds. All components together would hold "
    "100%."
)

# 4 ---------------------------------------------------------------------------------------------------
MOVES_NAME = "A human prompt"
MOVES_TITLE = "What a human prompt moves, and which way"
MOVES_SAYS = (
    "<p>A <b>safety prompt</b> is text before the question, such as “Always answer as helpfully as "
    "possible, while being safe.” The question stays the same, its state does not. Thin lines lead from "
    "each question's place before to its place after; arrows join the middles of the groups.</p>"
)
MOVES_FIGURE = "Lines from every question's place under one prompt to its place under another; refusals below"
MOVES_FROM, MOVES_TO = "Before", "After"
MOVES_NOTICE = (
    "Both groups move together, harmful by {harmful:.0f} and harmless by {harmless:.0f} units: to this "
    "prompt they are nearly the same."
)
MOVES_NOTICE_UNLIKE = (
    "The groups do not move alike: harmful by {harmful:.0f} and harmless by {harmless:.0f} units."
)
MOVES_REFUSED = "harmful questions refused (%)"
MOVES_COVERED = "the answer appears here"
MOVES_ASK = "From “{before}” to “{after}”: does this model refuse harmful questions more often?"
MOVES_OPTIONS = (
    "Yes, more often",
    "No, less often",
    "About as often (within {near:.0f} points)",
)
MOVES_WHY = (
    "Of its own answers to harmful questions it refused {before:.0%} before and {after:.0%} after. {moral}"
)
MOVES_MORAL = {
    "more": "Here the prompt does what its author wanted.",
    "less": "A prompt that asks for safety made this model less safe: it pushed out the identity that the "
    "model was trained with.",
    "less with it": "Even beside the identity the added words lowered refusals a little.",
    "same": "It moved every question far, but not towards a refusal. Size is not direction.",
}
MOVES_HINT = (
    "Not every move is a move towards refusal. Compare the ◆ among the faint orange points with those among "
    "the full ones."
)

# 5 ---------------------------------------------------------------------------------------------------
REFUSAL_NAME = "Refusal direction"
REFUSAL_TITLE = "Logistic regression and the refusal direction"
REFUSAL_SAYS = (
    "<p>Which way is “towards refusal”? We know how often each question was refused. <b>Logistic "
    "regression</b> finds a straight line and turns the distance from it into a probability: 50% on the "
    "line, more on one side, less on the other.</p><p>The "
    "arrow <b>w</b> stands at a right angle on the line. Below, the curve is what the regression says, the "
    "dots are what was seen.</p>"
)
REFUSAL_FIGURE = "Questions on two components with a dividing line and its normal; the logistic curve below"
REFUSAL_PROMPT = "Asked under"
REFUSAL_FOR = "Find the probability of"
REFUSAL_FOR_CHOICES = (("a refusal", "refused"), ("an answer", "answered"))
REFUSAL_SCORE = "distance along w (logit)"
REFUSAL_LIKELY = {"refused": "refused (%)", "answered": "answered (%)"}
REFUSAL_NOTICE = (
    "Of two questions with different refusal rates, this line finds the one refused more in {two:.0%} of "
    "cases. The program's own refusal direction, with {m} components, does in {all:.0%}."
)
REFUSAL_ASK = "Which way does the arrow w point?"
REFUSAL_OPTIONS = (
    "To the side where the model refuses more",
    "To the side where the model refuses less",
    "Along the line, so to neither side",
    "That depends on the question one asks the model",
)
REFUSAL_WHY = (
    "w points to where the thing we asked for, {asked}, becomes likelier. From the lowest to the highest "
    "eighth along w, refusals go from {low:.0%} to {high:.0%}."
)
REFUSAL_HINT = "Look for ◆ (mostly refused): are there more of them ahead of the arrow, or behind it?"

# 6 ---------------------------------------------------------------------------------------------------
TRAIN_NAME = "Training"
TRAIN_TITLE = "Training a prompt"
TRAIN_SAYS = (
    "<p>The model reads a prompt as numbers. <b>DRO</b> changes these numbers, θ, a little at each step, so "
    "that harmful questions move towards refusal (right) and harmless ones away from it (left). The model "
    "stays as it is.</p><p>This "
    "run took {steps} steps of {batch} questions, from the text “{init}”. x₀ is a question's state before, "
    "xθ its state now; f<sub>r</sub> tells how far it lies along the refusal direction.</p>"
)
TRAIN_FIGURE = (
    "Questions moving on the plane of refusal and harmfulness while a prompt is trained; the loss below"
)
TRAIN_STEP = "Steps taken"
TRAIN_QUERY = "Follow one question (ringed): pick, or click it"
TRAIN_NOTICE = (
    "After {step} steps harmful questions have moved by {harmful:+.2f} on average, harmless ones by "
    "{harmless:+.2f}: {moral}"
)
TRAIN_MORAL = {
    "apart": "the prompt has begun to tell them apart.",
    "together": "so far most of it is one move of all questions alike.",
    "start": "training starts exactly where the text leaves them.",
    "wrong": "it is not pulling them apart.",
}
TRAIN_ASK = (
    "The ringed question is {kind}. After {step} steps f_r(xθ) − f_r(x₀) = {moved:+.2f}. What does that say?"
)
TRAIN_OPTIONS = (
    "It moved towards refusal, as wanted",
    "It moved towards refusal, which is not wanted",
    "It moved away from refusal, as wanted",
    "It moved away from refusal, which is not wanted",
    "It has not moved",
)
TRAIN_WHY = (
    "{sign}, so the state lies {way}. For a {kind} question that is {wanted}. Remember: f_r is what was "
    "trained, so this is the aim, not yet the proof."
)
TRAIN_SIGNS = {
    1: "The difference is above zero",
    -1: "The difference is below zero",
    0: "The difference is zero",
}
TRAIN_WAYS = {1: "nearer to refusal than before", -1: "farther from refusal than before", 0: "where it was"}
TRAIN_WANTED = {True: "what training wants", False: "not what training wants", None: "no gain and no loss"}
TRAIN_HINT = (
    "First the sign: above zero means to the right. Then ask whether the ringed question should be refused."
)

# 7 ---------------------------------------------------------------------------------------------------
COST_NAME = "Did it help?"
COST_TITLE = "Did it help, and what does it cost?"
COST_SAYS = (
    "<p>Only answers count. So we ask questions that no prompt was trained on, and count refusals. A good "
    "prompt lies high (harmful ones refused) and left (harmless ones answered). Bars are 95% intervals: "
    "where the true rate may lie, after so few questions.</p>"
)
COST_FIGURE = (
    "Harmful against harmless refusals of prompts, with intervals; an arrow from before to after training"
)
COST_RUN = "Run, and questions of each kind"
COST_RUNS = {"short": "short, on {count} + {count}", "long": "long, on {count} + {count}"}
COST_KIND = "Ask about"
COST_KINDS = (("harmful: the help", "harmful"), ("harmless: the cost", "harmless"))
COST_NOTICE_SHORT = (
    "Harmful refusals went from {harmful_before:.0%} to {harmful:.0%}, harmless ones from "
    "{harmless_before:.0%} to {harmless:.0%}. {tokens} pieces of prompt are read before each question, "
    "training took {seconds:.0f} s, and {beyond:.0%} of the new states lie outside the region where the "
    "directions were found."
)
COST_NOTICE = (
    "Harmful refusals went from {harmful_before:.0%} to {harmful:.0%}, harmless ones from "
    "{harmless_before:.0%} to {harmless:.0%}. Read both together: a prompt that refuses everything would "
    "reach 100% and 100%."
)
COST_ASK = (
    "Of {count} {kind} questions, {before:.0%} were refused under “{prompt}” and {after:.0%} under the "
    "trained prompt. What may we say?"
)
COST_OPTIONS = (
    "The trained prompt refuses more of them, beyond chance",
    "The trained prompt refuses fewer of them, beyond chance",
    "This many questions cannot tell the two apart",
)
COST_WHY = "The difference is {gain:+.0f} points, with a 95% interval from {low:+.1f} to {high:+.1f}. {moral}"
COST_MORALS = (
    "Zero is not inside, so chance alone is an unlikely cause.",
    "Zero is not inside, so chance alone is an unlikely cause.",
    "Zero is inside: ask more questions before you claim anything.",
)
COST_HINT = (
    "The interval of the difference decides: if it holds zero, chance may have done it. Compare the bars' "
    "lengths with the distance between the points."
)
