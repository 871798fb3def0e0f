// A C++ program: operator new in its forms, containers, inlined constructors.
// examples/shapes.gdb shows that a block belongs to the line that said `new`.
#include <map>
#include <memory>
#include <string>
#include <vector>

struct Shape {
	virtual ~Shape() = default;
	virtual double area() const = 0;
};

struct Circle : Shape {
	explicit Circle(double radius) : radius(radius)
	{
	}
	double area() const override
	{
		return 3.14159 * radius * radius;
	}
	double radius;
};

struct Polygon : Shape {
	explicit Polygon(int corners) : points(new double[2 * corners])
	{
	}
	double area() const override
	{
		return points[0];
	}
	std::unique_ptr<double[]> points;
};

struct alignas(64) Tile {
	char pixels[192];
};

std::vector<std::unique_ptr<Shape>> shapes;
std::map<int, std::string> names;
std::vector<Tile *> tiles;

__attribute__((noinline)) void draw(int count)
{
	shapes.reserve(count);
	for (int index = 0; index < count; index++) {
		if (index % 2)
			shapes.push_back(std::make_unique<Circle>(index));
		else
			shapes.push_back(std::make_unique<Polygon>(index % 10 + 3));
	}
}

__attribute__((noinline)) void name(int count)
{
	for (int index = 0; index < count; index++)
		names[index] = "a name that is too long to be stored inside its string";
}

__attribute__((noinline)) void tile(int count)
{
	for (int index = 0; index < count; index++)
		tiles.push_back(new Tile);
}

extern "C" __attribute__((noinline)) void drawn()
{
	__asm__ volatile("" : : : "memory");
}

int main()
{
	drawn();
	draw(1000);
	name(100);
	tile(50);
	drawn();
	shapes.clear();
	shapes.shrink_to_fit();
	drawn();
	return 0;
}
