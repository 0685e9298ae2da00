"""Record a few demonstrations and look into their store.

python examples/inspect_store.py
"""

from pathlib import Path

import reconverge

if __name__ == "__main__":
    path = Path("demonstrations/push.zarr")
    # Made where it is missing; a store that holds them already is only opened.
    reconverge.collect(reconverge.get_task("push"), path, episodes=2, noise=0.2)

    store = reconverge.DemonstrationStore.open(path)
    print(f"{path}: {len(store)} episodes, {store.n_steps} steps")
    print(f"observations {store.observation_sizes}, actions [{store.action_size}]")
    print(f"of {store.attributes['task']}, expert {store.attributes['expert']}")
    for seed, episode in zip(store.scalars()["seed"], store.episodes(), strict=True):
        length, distance = len(episode.action), abs(episode.action).mean()
        print(f"seed {seed}: {length} steps, mean |action| {distance:.2f}")
        print(f"  the hand ends at {episode.observations['hand'][-1, :3].round(3)} m")
