"""The `.tflite` files: conversion, packing of weights, metadata."""
