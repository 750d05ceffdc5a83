"""Each kind of answer: what is the same and what is not, on pairs written and labelled by hand: gold ;; answer."""

import pytest

from torl_core.grading.equivalence import equivalent, readings
from torl_core.grading.kinds import KINDS, Table

SAME = {
    "characters": r"""
        x^{12} ;; x¹²
        2^{-3} ;; 2⁻³
        2^n ;; 2ⁿ
        x_{12} ;; x₁₂
        \frac{7}{8} ;; ⅞
        2\frac{1}{2} ;; 2½
        (1,2) ;; （1，2）
        1,3,4 ;; ①③④
        a<4 ;; a &lt; 4
        25^\circ\text{C} ;; 25 ℃
        \alpha+\beta ;; α+β
        3\sqrt{5} ;; √45
        [2,\infty) ;; x⩾2
    """,
    "tokens": r"""
        \frac{1}{2} ;; {1 \over 2}
        \binom{10}{3} ;; {10 \choose 3}
        \binom{10}{3} ;; ^{10}C_3
        \frac12 ;; \nicefrac{1}{2}
        5 ;; \Large 5
        5 ;; \ensuremath{\mathbf{5}}
        x \neq 5 ;; x \not= 5
        \sin 2x ;; sin2x
        \ln x + 1 ;; lnx+1
        a=b+c ;; a \\ = b+c
        t=\frac{5+bw}{a} ;; t=\frac{5+\mathrm{bw}}{a}
        2-i ;; 2-\mathrm{i}
        8 ;; 8\tag{1}
        24 ;; 4!=4\cdot 3\cdot 2\cdot 1=24
        x=1,\ y=2 ;; x=1\\ y=2
        \frac{a}{b+c} ;; a \over b+c
        cosx-sinx ;; \cos x-\sin x
        2sinxcosx ;; \sin 2x
        0.(36) ;; 0.\overline{36}
        (1 +- sqrt(5))/2 ;; \frac{1\pm\sqrt5}{2}
        0.\overline{36} ;; 0.\dot{3}\dot{6}
        0.\overline{36} ;; 0.363636...
        0.000123 ;; 1.23E-04
        3\times 10^8 ;; 3e8
        1.2\times 10^{-4} ;; 1.2 x 10^{-4}
    """,
    "quantity": r"""
        12 (pears) ;; 12
        12 (cm) ;; 12\text{ cm}
        250 (g) ;; 0.25\text{ kg}
        45 (degrees) ;; 45^\circ
        80 (degrees Fahrenheit) ;; 80
        2.4 \times 10^{3} \mathrm{~Pa} ;; 2400\text{ Pa}
        10 \mathrm{~N} ;; 10
        70 miles per hour ;; 70\text{ mph}
        10\text{ m/s} ;; 10 \frac{\text{m}}{\text{s}}
        10\text{ m/s} ;; 10\ \text{m s}^{-1}
        10\text{ cm}^2 ;; 10\,\text{cm²}
        18\text{ square meters} ;; 18 m^2
        1\text{ m} ;; 100\text{ cm}
        \$4.50 ;; \text{USD }4.50
        \$4.50 ;; 450\text{ cents}
        \text{Rs. }640 ;; 640
        \$3.20\text{ per pound} ;; \$3.20/\text{lb}
        14\text{ students} ;; 14
        14 ;; 14\text{ ways}
        5\text{ km} ;; 5\text{ km north}
        2000000 ;; 2\text{ million}
        300 ;; 3\text{ hundred}
        36 ;; 3\text{ dozen}
        25 ;; 5\text{ squared}
        5000 ;; 5\text{K}
        14 ;; 14\text{th}
        21^{st} ;; 21\text{st}
        5\ \Omega ;; 5\text{ ohms}
        8 ;; 8\text{ (exactly)}
    """,
    "compound": r"""
        1\text{ hour }30\text{ minutes} ;; 90\text{ min}
        1\text{ hour }30\text{ minutes} ;; 1\text{ h and }30\text{ min}
        5'7'' ;; 67\text{ inches}
        30^\circ 15' ;; 30.25^\circ
    """,
    "number_name": r"""
        20 ;; \text{twenty}
        \frac{2}{3} ;; \text{two thirds}
        \frac52 ;; \text{two and a half}
    """,
    "narration": r"""
        8 ;; \text{Answer: }8
        55 ;; \text{Total: }55
        14 ;; \text{There are 14 ways}
        64 ;; \text{The volume of the cube is } 64
        5 ;; x+2=7 \Rightarrow x=5
        \text{No} ;; \text{No, it does not converge.}
        x>2:(2,\infty) ;; (2,\infty)
        x=2 ;; x=2\ (x=-3\text{ is extraneous})
        4\sqrt3 ;; 4\sqrt3\ (\text{about }6.93)
        15 ;; 15\text{ (fifteen)}
        (2,-3) ;; \text{center }(2,-3)
        $0\leq t<5$, that is, $t\in[0,5)$ ;; [0,5)
        $\frac34$ (or $0.75$) ;; 0.75
    """,
    "choice": r"""
        D ;; \text{D. }2-i
        D. 2-\mathrm{i} ;; 2-i
        (B) 7 ;; B
        E ;; E: \text{a polygenic score}
        E ;; \text{Option E}
        (D) ;; D) 12
        B ;; \text{The correct answer is B}
    """,
    "letters": r"""
        AC ;; A, C
        BD ;; \text{(B) and (D)}
        ABD ;; \text{A, B and D}
        HHT ;; \text{HHT}
        YES ;; \text{Yes}
        AB ;; BA
    """,
    "clock": r"""
        7:04 ;; 07:04
        2:15\text{ PM} ;; 2:15\text{ p.m.}
        4:05\text{ pm} ;; 16{:}05
        \text{noon} ;; 12:00\text{ p.m.}
        \text{July 4} ;; \text{4 July}
        March 3rd ;; \text{March 3}
        10:20 \mathrm{AM} ;; \text{10:20 in the morning}
        \text{March 5, 2021} ;; \text{2021-03-05}
    """,
    "ratio": r"""
        3:5 ;; 6:10
        3:5 ;; 3\text{ to }5
        3:5 ;; \frac35:1
        AB:BC=3:5 ;; 3:5
    """,
    "residue": r"""
        x\equiv 5\pmod 7 ;; 12 \pmod{7}
        x\equiv 2\pmod 5 ;; x=5k+2,\ k\in\mathbb{Z}
        5\text{ R }2 ;; 5\text{ remainder }2
        3 \pmod{11} ;; 3\bmod 11
    """,
    "based": r"""
        3210_{5} ;; 3210_{(5)}
        254_{8} ;; 254_{\text{base }8}
        3210_{5} ;; 3210 \text{ (base 5)}
        FF_{16} ;; ff_{16}
    """,
    "family": r"""
        \frac{\pi}{4}+k\pi, k\in Z ;; \frac{\pi}{4}+n\pi\ (n\in\mathbb{Z})
        \frac{\pi}{4}+k\pi, k\in\mathbb{Z} ;; \frac{5\pi}{4}+n\pi, n\in\mathbb{Z}
        n=3k ;; n=3k, k\in\mathbb{Z}
        f(x)=x+1 ;; f(x)=x+1\text{ for all }x
        f(x)=cx ;; f(x)=cx\text{ for any constant }c
        \frac{x^3}{3}+C ;; \frac{x^3}{3}+K
        \tan x+C ;; \tan x+1+C
        y=Ce^{2x} ;; y=Ae^{2x}
        y=c_1e^x+c_2e^{-x} ;; y=Ae^{-x}+Be^x
        f(x)=\frac1x\ (x\neq 0) ;; \frac1x
    """,
    "inequality": r"""
        1<x<3 ;; x>1,\ x<3
        (-1,5) ;; |x-2|<3
        (-3,3) ;; x^2<9
        \{x \mid x=0 \text{ or } x\ge 1\} ;; \{0\}\cup[1,\infty)
        (2,\infty) ;; 2x-1>3
        x\neq 1,2 ;; x\neq1\text{ and }x\neq2
        -2x<6 ;; x>-3
        a>b>c ;; c<b<a
    """,
    "region": r"""
        (-\infty,-2)\cup(2,\infty) ;; \mathbb{R}\setminus[-2,2]
        (-\infty,2)\cup(2,\infty) ;; \text{all real numbers except } 2
        [2,3)\cup[3,5] ;; [2,5]
        [2,3)\cup(3,5] ;; [2,5]\setminus\{3\}
        (-\infty,-1]\cup[2,\infty) ;; \{x|x≤-1或x≥2\}
        (0,\infty) ;; \mathbb{R}^+
        [0,1) ;; [0,1[
        \{x \mid x>3\} ;; \{t \mid t>3\}
        \{n\in\mathbb{Z} \mid 0<n<4\} ;; \{1,2,3\}
        \{k\pi \mid k\in\mathbb{Z}\} ;; x=k\pi,\ k\in\mathbb{Z}
        n\in\mathbb{Z} ;; n \text{ is an integer}
        \{1,3\}\cup\{2,4\} ;; \{1,2,3,4\}
    """,
    "listing": r"""
        a=2,b=3 ;; 2,3
        \text{(a) }3,\ \text{(b) }5 ;; \text{(a) } 3; \quad \text{(b) } 5
        \text{(a) }3,\ \text{(b) }5 ;; 3, 5
        (p,q)=(7,2) ;; (q,p)=(2,7)
        (1,2) ;; x=1,\ y=2
        3,4 ;; x_1=3, x_2=4
        k=3,5,8 ;; k=8, k=5, k=3
        x=y=z=1 ;; (x,y,z)=(1,1,1)
        \{1,2,\ldots,6\} ;; 1,2,3,4,5,6
        \text{Evelyn, Briana} ;; \text{Briana and Evelyn}
        0.2\text{ or }\frac15 ;; \frac15
    """,
    "equation": r"""
        55 ;; m+n=55
        55 ;; 100m+n = 55
        |AB|=5 ;; 5
        55 ;; [ABC]=55
        \frac{dy}{dx}=2x ;; 2x
        (2,-1) ;; P(2,-1)
        |z|=5 ;; 5
        y'=-2xy ;; \frac{dy}{dx}=-2xy
        xy=1 ;; y=\frac1x
        \binom{9}{4} ;; C(9,4)
        \frac{d^2y}{dx^2}=6x ;; y''=6x
        \frac{n}{n+1} ;; \sum_{k=1}^{n}\frac{1}{k(k+1)}=\frac{n}{n+1}
        \sin^2A+\cos^2A=1 ;; 1=\cos^2A+\sin^2A
        y=\pm\frac34x ;; 3x\pm4y=0
        \frac{x-1}{2}=\frac{y}{3}=\frac{z}{4} ;; \frac{x-1}{-2}=\frac{y}{-3}=\frac{z}{-4}
        45 ;; f(1)+f(2)+\cdots+f(9)=45
    """,
    "bracket": r"""
        (1,\pm2) ;; (1,2),(1,-2)
        \pm\sqrt2\pm\sqrt3 ;; \sqrt2+\sqrt3,\sqrt2-\sqrt3,-\sqrt2+\sqrt3,-\sqrt2-\sqrt3
        (1,2),(3,4) ;; \{(3,4),(1,2)\}
        7 ;; \{7\}
    """,
    "matrix": r"""
        \begin{vmatrix}1&2\\3&4\end{vmatrix} ;; -2
        (1,0,0)+t(2,3,4) ;; (1+2t,3t,4t)
        \begin{pmatrix}1\\2\end{pmatrix} ;; \begin{pmatrix}1&2\end{pmatrix}^T
        (2,-1,0) ;; 2\mathbf{i}-\mathbf{j}
        \vec{a}\cdot\vec{b} ;; \mathbf{a}\cdot\mathbf{b}
    """,
    "cases": r"""
        (1,2) ;; \begin{cases}x=1\\y=2\end{cases}
        1,2 ;; \begin{aligned}x&=1\\x&=2\end{aligned}
        (1,4),(4,1) ;; \begin{cases}x=1\\y=4\end{cases}\text{ or }\begin{cases}x=4\\y=1\end{cases}
        \begin{cases}x+1&x>0\\0&x\le 0\end{cases} ;; \begin{cases}0&x\leq0\\1+x&\text{if }x>0\end{cases}
        \begin{cases}x+1&x>0\\0&x\le 0\end{cases} ;; \begin{cases}x+1,&x>0\\0,&\text{otherwise}\end{cases}
    """,
    "logic": r"""
        A\cap B ;; B\cap A
        AB\parallel CD ;; CD \parallel AB
        p\wedge\neg q ;; \neg q\land p
        A\supset B ;; B\subset A
    """,
    "words": r"""
        Mrs. Hall ;; \text{Mrs. Hall}
        \text{ellipse} ;; \text{an ellipse}
        a square ;; \text{square}
        \text{Brand B} ;; Brand\ B
        St. Louis ;; \text{St. Louis}
    """,
    "expression": r"""
        f(x+1)-f(x) ;; -f(x)+f(1+x)
        7!! ;; 105
        (2n-1)!! ;; \frac{(2n)!}{2^n n!}
        \sum_{k=1}^n k ;; \frac{n(n+1)}{2}
        \int_0^1 x\,dx ;; \frac12
        2\operatorname{cis}60^\circ ;; 1+i\sqrt3
        f^{(3)}(x) ;; f'''(x)
        \angle XYZ ;; \angle ZYX
        \frac{10!}{3!\,7!} ;; 120
        \gcd(a,b) ;; \gcd(b,a)
        \sum_{i=1}^{n} a_i^2 ;; \sum_{k=1}^{n} a_k^2
        \sum_{i=0}^{n} 2^i ;; 2^{n+1}-1
    """,
    "gold": r"""
        ["34"] ;; 34
        ['(0, 1)', '(2, 5)'] ;; (2,5),(0,1)
        **42** ;; 42
        The maximum value is $\frac{9}{8}$. ;; \frac98
    """,
}

DIFFERENT = {
    "characters": r"""
        2 ;; 2¹²
        2n ;; 2ⁿ
        134 ;; ①③④
    """,
    "tokens": r"""
        x=5 ;; x \not= 5
        x\in A ;; x \not\in A
        5m ;; 5
        \frac{1}{2x} ;; 1/2x
        5 ;; 5?
        5 ;; \cancel{5}
        5 ;; 5 @ 3
    """,
    "quantity": r"""
        2 ;; 2\text{ million}
        2\text{ billion} ;; 2\text{ million}
        5 ;; 5\text{ squared}
        3 ;; 3\text{ hundredths}
        5 ;; 5\text{ (wrong)}
        5 ;; 5\text{ at least}
        5 ;; 5\text{ or more}
        5 ;; 5\text{ twenty}
        10\text{ girls} ;; 10\text{ boys}
        5\%\text{ increase} ;; 5\%\text{ decrease}
        5\text{ km north} ;; 5\text{ km south}
        10\text{ cm} ;; 10\text{ apples}
        10\text{ cm} ;; 100\text{ cm}
        2\text{ hours} ;; 2\text{ minutes}
        \$3.20\text{ per pound} ;; \$3.20\text{ per ounce}
        25^\circ\text{C} ;; 25^\circ\text{F}
        5 ;; 5\text{k}
    """,
    "compound": r"""
        1\text{ hour }30\text{ minutes} ;; 1\text{ hour }20\text{ minutes}
        30^\circ 15' ;; 30.15^\circ
        5'7'' ;; 57
    """,
    "number_name": r"""
        \frac12 ;; \text{one third}
        20 ;; \text{twenty-one}
    """,
    "narration": r"""
        \text{Ann: }5,\ \text{Ben: }8 ;; \text{Ann: }8,\ \text{Ben: }5
        5 ;; x=5 \Rightarrow x+2=7
        5 ;; \text{not sure: }5
        5 ;; 5 \to 3
        5 ;; \text{It is false that } x \text{ is } 5
    """,
    "choice": r"""
        (B) 7 ;; (C) 7
        (B) 7 ;; (B) 8
        B ;; 7
        D. 2-\mathrm{i} ;; A
        \textbf{(A)}\ \text{even} ;; \textbf{(A)}\ \text{odd}
        E ;; \langle H\rangle \ll \Delta E
    """,
    "letters": r"""
        SAS ;; SSA
        CAT ;; ACT
        Ted ;; Det
        BADC ;; ABCD
        A ;; A, B
        A, C ;; \text{A or C}
        AC ;; ACD
    """,
    "clock": r"""
        12:00 ;; 1:00
        5:00 ;; 9:00
        7:04 ;; 14:08
        11:30 ;; 1:30
        9:15 ;; \frac35
        2:15\text{ PM} ;; 2:15\text{ AM}
        \text{July 4, 2020} ;; \text{July 4, 2021}
        07/04/2020 ;; 04/07/2020
    """,
    "ratio": r"""
        1:2:3 ;; 1:4:9
        AB:BC=3:5 ;; 5:3
    """,
    "residue": r"""
        x\equiv 5\pmod 7 ;; x\equiv 5\pmod 9
        n\equiv 1\pmod 4 ;; n=1
        12 ;; 12 \bmod 5
        5 ;; 5\text{ remainder }2
        x\equiv 2\pmod 5 ;; x=5k+3,\ k\in\mathbb{Z}
    """,
    "based": r"""
        3210_{5} ;; 3210_{6}
        10_2 ;; 2
        7 ;; 7_000
    """,
    "family": r"""
        n=3k, k\in\mathbb{Z} ;; n=3k, k\in\mathbb{N}
        \frac{\pi}{4}+k\pi, k\in\mathbb{Z} ;; \frac{\pi}{4}+2k\pi, k\in\mathbb{Z}
        \frac{x^3}{3}+C ;; \frac{x^3}{3}
        \ln|x|+C ;; \ln(x)+C
        a+b+c ;; a+b-c
        \frac{A}{B}x ;; \frac{B}{A}x
        \frac{k}{c}x ;; \frac{c}{k}x
        \frac{A}{x} ;; \frac{x}{A}
        f(x)=0 ;; \forall x>0, f(x)=0
        2x ;; 2y
    """,
    "inequality": r"""
        x<1\text{ or }x>3 ;; x<1\text{ and }x>3
        x>7 ;; n>7
        7 ;; 7\le x\le 9
        a>b>c ;; a>c>b
        1<x\leq 3 ;; 1\neq x\leq 3
    """,
    "region": r"""
        (6,0) ;; (4,4)
        \{n\in\mathbb{Z} \mid 0<n<4\} ;; \{0,1,2,3\}
        [2,5] ;; [2,3)\cup(3,5]
        \{y\mid y=x^2\} ;; y=x^2
        8 ;; [8,8]
        (-\infty,-8] ;; (-\infty,-8)
    """,
    "listing": r"""
        a=2,b=3 ;; 3,2
        \text{(a) }3,\ \text{(b) }5 ;; \text{(a) }5,\ \text{(b) }3
        a=2,b=3 ;; b=2,a=3
        x=3, y=4 ;; x=4, y=3
        (x,y)=(1,2) ;; x=2,\ y=1
        x=-2\text{ or }x=7 ;; (-2,7)
        x=0\text{ and }y=0 ;; x=0\text{ or }y=0
        p\text{ or }q ;; p\text{ and }q
        7\text{ or }-7 ;; 7
        (1,2) ;; x=1\text{ or }y=2
        1 2 , -3 ;; -3, 12
        2,4,\ldots,2n ;; 2,3,\ldots,n+1
    """,
    "equation": r"""
        7 ;; 3=7
        7 ;; 2=3=7
        55 ;; 10+40=55
        55 ;; a+b=54
        x+y=3 ;; 3
        p=2, q=3 ;; p+q=5
        f(3)=5 ;; f(5)=3
        g'(x)=2x ;; g(x)=2x
        |z|=5 ;; z=5
        0 ;; x^2-5x+6=0
        17 ;; 17 = a \text{ is false}
        x^2-5x+6 ;; x^2-5x+6=0
        \sin^2x+\cos^2x=1 ;; 1+\tan^2x=\sec^2x
    """,
    "bracket": r"""
        (1,\pm 2) ;; (1,2)
        \pm 14 ;; 14
        \{\{1\},\{2\}\} ;; \{1,2\}
        \{\emptyset\} ;; \emptyset
        1\pm 2i ;; 1-2i
    """,
    "matrix": r"""
        A^{T}B ;; AB^{T}
        \vec{a}\times\vec{b} ;; \vec{b}\times\vec{a}
        \vec{x} ;; x
        \begin{pmatrix} -3 \\ -12 \end{pmatrix} ;; \begin{pmatrix}-3-12\end{pmatrix}
    """,
    "cases": r"""
        \begin{cases}x+1&x>0\\0&x\le 0\end{cases} ;; \begin{cases}x+1&x<0\\0&x\ge 0\end{cases}
        (1,2) ;; \begin{cases}x=2\\y=1\end{cases}
    """,
    "logic": r"""
        A\setminus B ;; B\setminus A
        A\subset B ;; B\subset A
        A\subset B ;; A\subseteq B
        p\to q ;; q\to p
        p\land q ;; p\lor q
        AB\parallel CD ;; AB\perp CD
        a\in M ;; \{a\}\in M
    """,
    "words": r"""
        Mrs. Hall ;; \text{Mr. Hall}
        \text{Evelyn} ;; Evelyn's car
        \text{Yes} ;; \text{Yes?}
        \text{ray }AB ;; \text{ray }BA
        \text{odd} ;; -\text{odd}
        0 ;; \text{none}
        \text{Yes} ;; True
    """,
    "expression": r"""
        f(x)+f(y) ;; f(x+y)
        f(f(x)) ;; f^2x
        f(x+1)-f(x) ;; f(1)
        f''(x) ;; f'(x)
        x' ;; x
        A^{\prime} ;; A
        \frac{y}{x} ;; \frac{dy}{dx}
        \frac{d^2y}{dx^2} ;; \frac{dy}{dx}
        \frac{\partial f}{\partial x} ;; \frac{\partial f}{\partial y}
        x\,dx ;; x^2 d
        \frac{\Delta y}{\Delta x} ;; \frac{y}{x}
        720 ;; 3!!
        \angle BAC ;; \angle ABC
        \overline{z} ;; z
        P(A\cap B) ;; P(A)P(B)
        f^{(3)}(x) ;; f^{3}(x)
        4\operatorname{cis}\frac{\pi}{2} ;; 4\cos\frac{\pi}{2}
        3.14159... ;; \pi
    """,
    "gold": r"""
        ["34"] ;; 35
    """,
}


def pairs(table: dict[str, str]) -> list[object]:
    rows = [(kind, line.strip()) for kind, lines in table.items() for line in lines.strip().splitlines()]
    return [pytest.param(*row.split(" ;; "), id=f"{kind}: {row}") for kind, row in rows]


@pytest.mark.parametrize(("gold", "answer"), pairs(SAME))
def test_same(gold: str, answer: str) -> None:
    grade = equivalent(gold, answer)
    assert grade.correct is True, grade


@pytest.mark.parametrize(("gold", "answer"), pairs(DIFFERENT))
def test_different(gold: str, answer: str) -> None:
    grade = equivalent(gold, answer)
    assert grade.correct is False, grade


def test_every_kind_has_pairs_here() -> None:
    names = {kind.__name__.rpartition(".")[2] for kind in KINDS}  # type: ignore[attr-defined]
    assert names <= SAME.keys()
    assert names <= DIFFERENT.keys()


@pytest.mark.parametrize(
    ("gold", "printed"),
    [
        (r"\frac{3}{4}", "Fraction(3, 4)"),
        ("5", "np.float64(5.0)"),
        ("(0,1)", "Interval.open(0, 1)"),
        ("(1,2),(3,4)", "[(1, 2), (3, 4)]"),
        ("3-2i", "3 - 2*I"),
        ("x=2, y=-3", "{x: 2, y: -3}"),
        ("(-\\infty,0)\\cup(3,\\infty)", "Union(Interval.open(-oo, 0), Interval.open(3, oo))"),
        (r"\begin{bmatrix}0&1\\-1&2\end{bmatrix}", "Matrix([[0, 1], [-1, 2]])"),
        ("2", "log(100)"),
        (r"\frac{7}{4}, 2", "[Fraction(7, 4), 2]"),
        ("-\\infty", "float('-inf')"),
        (r"\ln 2", "log(2)"),
    ],
)
def test_what_python_prints_is_read(gold: str, printed: str) -> None:
    assert equivalent(gold, printed).correct is True


@pytest.mark.parametrize("gold", ["12\u200b", "\ufeff12", "12\u200e", "1\u00ad2", "\u206212"])
def test_invisible_characters_of_a_gold_do_not_count(gold: str) -> None:
    assert equivalent(gold, "12").correct is True
    assert equivalent(gold, "13").correct is False


def test_nesting_is_read_once() -> None:
    """Without memory of what was read, each level of this doubles the work."""
    deep = "2(" * 39 + "1,2" + ",1)" * 39
    assert list(readings(deep, Table())) is not None
    assert equivalent("7", deep).correct is False
