from adder._fast import add


def main():
    print("1 + 2 =", add(1, 2))
