"""Names for runs that were given none."""

import secrets

_ADJECTIVES = (
    "able amber ample azure bold brave brisk calm clear clever crisp deep eager early easy fair fine fleet fond free "
    "fresh gentle glad golden grand happy hardy honest keen kind large late level light lively lucky mellow merry mild "
    "neat nimble noble patient plain polite proud quick quiet rapid ready rich rosy sharp silent silver simple smart "
    "smooth solid steady still stout sturdy subtle sunny swift tidy true vivid warm wide wise young"
)
_ANIMALS = (
    "auk bass bream carp clam cod coot crab crane curlew dab dolphin duck dunlin eel eider gannet goby grebe gull "
    "hake heron herring kelp krill lamprey limpet lobster loon lugworm manatee marlin mullet mussel narwhal newt "
    "octopus orca osprey otter oyster pelican perch petrel pike plaice plover porpoise prawn puffin ray salmon seal "
    "shark shrimp skate snipe sole sprat squid starfish stork sturgeon swan tern trout tuna turbot turtle urchin whale"
)


def new_run_name() -> str:
    """Return a name such as ``brisk-otter-417`` (the form of MLflow's)."""
    return f"{secrets.choice(_ADJECTIVES.split())}-{secrets.choice(_ANIMALS.split())}-{secrets.randbelow(1000)}"
