"""Benchmarks with their official files and scoring, and the same in the bundled world."""

from sightline.benchmarks.base import Benchmark, InvalidItem, Item, Parser, Unit, Verdict, benches, find_bench, register

__all__ = ["Benchmark", "InvalidItem", "Item", "Parser", "Unit", "Verdict", "benches", "find_bench", "register"]
