"""Every scenario, by importing the modules that register them."""

from simulation.scenarios import calm as calm
