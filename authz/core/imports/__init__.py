"""Descriptions of APIs as rows of a policy: conversion, merging and comparison, without files."""
