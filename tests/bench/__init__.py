"""The measurements measure what they say; none of these tests looks at a time."""
