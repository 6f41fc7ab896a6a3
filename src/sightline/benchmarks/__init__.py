"""Benchmarks with their official files and scoring, and the same in the bundled world."""

from sightline.benchmarks.base import BadItem, Benchmark, Item, Judgement, Parser, Unit, benches, find_bench, register

__all__ = ["BadItem", "Benchmark", "Item", "Judgement", "Parser", "Unit", "benches", "find_bench", "register"]
