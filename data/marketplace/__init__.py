"""A simulated shop whose shoppers' true wishes are known, so that the best possible order is known too.

    reshelf data simulate --out runs/shop --seed 1 --train_lists 2000

`vocabulary` holds the words, `catalogue` makes the products, `pictures` draws them, `shoppers` has the hidden tastes
and the choice model, and `simulation` the lists and the data set folder.
"""

from reshelf.data.marketplace.simulation import MarketplaceConfig, Simulator, simulate, simulate_folder

__all__ = ["MarketplaceConfig", "Simulator", "simulate", "simulate_folder"]
