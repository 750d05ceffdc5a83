"""What counts as the same answer, on pairs written and labelled by hand: gold ;; answer."""

import time
from fractions import Fraction
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from torl_core.grading.equivalence import equivalent

SAME = r"""
    \frac{1}{2} ;; 0.5
    1,234 ;; 1234
    (2,\infty) ;; x>2
    \text{(A)} ;; A
    A ;; \text{(A)}
    B ;; \textbf{(B) }12
    \begin{pmatrix} -1/2 \\ 5/2 \\ 1 \end{pmatrix} ;; \begin{bmatrix} -0.5 \\ \frac52 \\ 1 \end{bmatrix}
    y = 2x + 3 ;; 2x-y+3=0
    x=4 ;; 4
    3 \pm 2 \sqrt{2} ;; 3+2\sqrt2, 3-2\sqrt 2
    (-\infty, 1)\cup(1, \infty) ;; x\neq 1
    108\text{ degrees} ;; 108^\circ
    90^\circ ;; \frac{\pi}{2}
    4\!:\!51\!:\!06 \text{ p.m.} ;; 4:51:06 p.m.
    \text{A, B} ;; B,A
    2, 3, \text{ and } 4 ;; 2,3,4
    60^\circ, 120^\circ ;; 60,120
    0.56 = 56\% ;; 56\%
    -80\leq g(x)\leq 82 ;; [-80,82]
    [-77,77] ;; -77\le x\le 77
    \{1\pm\sqrt{5},-2\} ;; -2,1-\sqrt5,1+\sqrt5
    12\text{ dollars} ;; \$12
    2516_8 ;; 2516_{8}
    \mathbb{R} ;; (-\infty,\infty)
    \mathbb{R}\setminus\{1\} ;; (-\infty,1)\cup(1,\infty)
    \frac{1}{7}\triangle ABC ;; \dfrac17 \triangle ABC
    2\text{ miles} ;; 2
    x^2+1 ;; 1+x^2
    \text{Monday} ;; Monday
    \mbox{four} ;; 4
    15\mbox{ cm}^2 ;; 15 \text{ square centimeters}
    50\% ;; \frac12
    50\% ;; 50
    f(x)=2x ;; 2x
    \emptyset ;; \{\}
    1:2 ;; 2:4
    \tan \theta = 2\theta ;; 2\theta=\tan\theta
    s^2 \le 8r^2 ;; 8r^2\ge s^2
    AB=9, CD=4 ;; CD=4,AB=9
    12345 ;; 12,345
    12345 ;; 12{,}345
    12345 ;; 12\,345
    12345 ;; 12 345
    1000000 ;; 1,000,000
    1000000 ;; 10^6
    0.5 ;; .5
    -0.5 ;; -\frac12
    \frac{3}{4} ;; 3/4
    \frac{3}{4} ;; \dfrac{6}{8}
    \frac{3}{4} ;; 0.75
    -\frac{3}{4} ;; \frac{-3}{4}
    -\frac{3}{4} ;; \frac{3}{-4}
    3\frac{1}{2} ;; \frac72
    3\frac{1}{2} ;; 3.5
    3\frac{1}{2} ;; 3 1/2
    \frac{1}{3} ;; 0.\overline{3}
    \frac{1}{3} ;; 0.\dot{3}
    \frac{1}{7} ;; 0.\overline{142857}
    1 ;; 0.\overline{9}
    25\% ;; 25
    25 ;; 25\%
    25\% ;; \frac14
    25\% ;; 25 percent
    10\text{ cm} ;; 10
    10 ;; 10 \text{ cm}
    10\text{ cm} ;; 10\,\mathrm{cm}
    10\text{ cm} ;; 10\text{ centimeters}
    5\text{ m/s} ;; 5\text{ meters per second}
    \$18.90 ;; 18.90
    \$18.90 ;; 18.9\text{ dollars}
    60 ;; 60^\circ
    60^\circ ;; 60\text{ degrees}
    60^{\circ} ;; 60°
    \frac{\pi}{3} ;; 60^\circ
    \sqrt{8} ;; 2\sqrt{2}
    \frac{1}{\sqrt{3}} ;; \frac{\sqrt{3}}{3}
    \frac{\sqrt{3}}{2} ;; \sqrt{3}/2
    \frac{\sqrt{3}}{2} ;; sqrt(3)/2
    \frac{\sqrt{3}}{2} ;; \sqrt{\frac{3}{4}}
    2\pi ;; 2*pi
    2\pi ;; 2π
    \pi r^2 ;; r^2\pi
    e^2 ;; \exp(2)
    e^{x+1} ;; e\cdot e^x
    3+4i ;; 4i+3
    3+4i ;; 3+i4
    \frac{1+i}{2} ;; \frac12+\frac{i}{2}
    \frac{1+i}{2} ;; \frac12+\frac12 i
    x^2-1 ;; (x-1)(x+1)
    x^2+2x+1 ;; (x+1)^2
    2x+3y ;; 3y+2x
    \frac{x+1}{2} ;; \frac{x}{2}+\frac12
    x^3-6x^2+64 ;; x**3 - 6*x**2 + 64
    \sin 2x ;; 2\sin x\cos x
    \sin^2 x ;; \frac{1-\cos 2x}{2}
    \sec^2 x ;; 1+\tan^2 x
    \cot x ;; \frac{\cos x}{\sin x}
    \ln 8 ;; 3\ln 2
    \log_2 8 ;; 3
    \log_{10} 1000 ;; 3
    \ln\frac{1}{2} ;; -\ln 2
    \binom{10}{3} ;; 120
    5! ;; 120
    |x-1| ;; |1-x|
    2^{100} ;; 4^{50}
    2^{10} ;; 1024
    \{1,2,3\} ;; \{3,2,1\}
    \{1,2,3\} ;; 1,2,3
    1,2 ;; 2, 1
    1,2 ;; x=1 \text{ or } x=2
    1,2 ;; 1 \text{ and } 2
    1,-1 ;; \pm 1
    x=1,2 ;; 1,2
    (1,2) ;; (1, 2)
    (1,2) ;; \left(1,2\right)
    (\frac12,3) ;; (0.5,3)
    (1,2,3) ;; \begin{pmatrix}1\\2\\3\end{pmatrix}
    (1,2) ;; x=1, y=2
    (x,y)=(1,2) ;; (1,2)
    (2,5] ;; 2<x\le5
    (2,5] ;; x\in(2,5]
    [3,\infty) ;; x\geq 3
    [3,\infty) ;; 3\le x
    [3,\infty) ;; [3,+\infty)
    (-\infty,1)\cup(3,\infty) ;; x<1 \text{ or } x>3
    (-\infty,1)\cup(3,\infty) ;; (3,\infty)\cup(-\infty,1)
    (0,1) ;; \{x \mid 0<x<1\}
    (0,1) ;; \{x : 0<x<1\}
    (0,1) ;; \{x\in\mathbb{R} : 0<x<1\}
    \begin{pmatrix}1&2\\3&4\end{pmatrix} ;; \begin{bmatrix}1&2\\3&4\end{bmatrix}
    \begin{pmatrix}1&2\\3&4\end{pmatrix} ;; \left(\begin{array}{cc}1&2\\3&4\end{array}\right)
    \begin{pmatrix}1&2\\3&4\end{pmatrix} ;; \left[\begin{matrix}1&2\\3&4\end{matrix}\right]
    \begin{pmatrix}1/2\\3\end{pmatrix} ;; \begin{pmatrix}\frac{1}{2}\\[4pt]3\end{pmatrix}
    y=2x+1 ;; y=1+2x
    y=2x+1 ;; 2x+1
    y=2x+1 ;; 2x-y=-1
    x+y=3 ;; 2x+2y=6
    x^2+y^2=4 ;; 4=x^2+y^2
    x=5 ;; 5
    5 ;; x=5
    5 ;; n = 5
    2x - y + 3z + 8 = 0 ;; y=2x+3z+8
    101_2 ;; 101_{2}
    A5_{11} ;; \text{A5}_{11}
    101_2 ;; 101_{\text{two}}
    (A) ;; A
    \text{(C)} ;; \textbf{(C)}
    C ;; \text{C}
    C ;; \mathbf{C}
    C ;; (\text{C})
    C ;; \textbf{(C)}\ 12
    12 ;; \textbf{(C)}\ 12
    \text{Friday} ;; friday
    \text{even} ;; \text{Even}
    \text{no solution} ;; no solution
    \emptyset ;; \varnothing
    3:4 ;; \frac34
    f(x)=x+1 ;; x+1
    \frac{1}{x-1} ;; -\frac{1}{1-x}
    \sqrt[3]{2} ;; 2^{1/3}
    \sqrt[3]{4} ;; \sqrt[6]{16}
    1.2\times 10^5 ;; 120000
    3\cdot 10^{-2} ;; 0.03
    5 ;; 5.0
    5 ;; 5.
    5 ;; +5
    5 ;; \boxed{5}
    5 ;; \fbox{5}
    5 ;; {5}
    5 ;; \text{5}
    5 ;; $5$
    5 ;; \(5\)
    -5 ;; −5
    \infty ;; infinity
    a_1 ;; a_{1}
    \frac{9}{2} ;; 4.5
    \frac{9}{2} ;; \frac92
    \frac{9}{2} ;; 9/2.
    \lfloor 3.7\rfloor ;; 3
    7 ;; \frac{14}{2}=7
    7 ;; 2+5=7
    10\pi ;; S=2\pi\cdot5=10\pi
    \sqrt{2} ;; \sqrt{2}\approx 1.414
    2\sqrt{5}-3 ;; -3+2\sqrt5
    \frac{-1+\sqrt{5}}{2} ;; \frac{\sqrt5-1}{2}
    \frac{3\pm\sqrt{5}}{2} ;; \frac{3+\sqrt5}{2},\frac{3-\sqrt5}{2}
    (3,\frac{\pi}{2}) ;; (3,\pi/2)
    k=\frac{-33}{2} ;; -16.5
    14 ;; 14 \text{ right triangles}
    3:30 ;; 3:30
    \text{two lines} ;; two lines
    p - q ;; -q+p
    \langle 1,2,3\rangle ;; (1,2,3)
    \sum_{k=1}^{n} k ;; \sum_{k=1}^{n}k
    5 ;; \displaystyle 5
    1 ;; \sin^2 x+\cos^2 x
    0 ;; \ln 1
    \mathbb{R} ;; \text{all real numbers}
    \frac{\sqrt{2}}{2} ;; \frac{1}{2}\sqrt{2}
    \frac{\sqrt{2}}{2} ;; 0.5\sqrt{2}
    \dfrac{1}{2}x+3 ;; 0.5x+3
    \left(\frac{1}{2},-\frac{3}{2}\right) ;; (0.5,-1.5)
    (3,-1) ;; \left( {3, - 1} \right)
    \frac{5\pi}{6} ;; \frac{5}{6}\pi
    \frac{5\pi}{6} ;; 5\pi/6
    \frac{5\pi}{6} ;; 150^\circ
    x \in [-2,7] ;; [-2,7]
    x \in [-2,7] ;; -2 \leq x \leq 7
    (-\infty,-1]\cup[1,\infty) ;; x\le -1 \text{ or } x\ge 1
    (-\infty,-1]\cup[1,\infty) ;; |x|\ge 1
    (-1,1) ;; |x|<1
    0,1,2 ;; 0, 1, \text{ and } 2
    0,1,2 ;; 0, 1, and 2
    x=0,x=1 ;; 0,1
    x=0\text{ or }x=1 ;; \{0,1\}
    \{0,1\} ;; \left\{0,1\right\}
    2+2i,\,-2-2i,\,-2+2i,\,2-2i ;; 2-2i, -2+2i, 2+2i, -2-2i
    i\sqrt{3},-i\sqrt{3} ;; \pm i\sqrt{3}
    i\sqrt{3},-i\sqrt{3} ;; \pm\sqrt{3}i
    1 \pm \sqrt{19} ;; 1+\sqrt{19},1-\sqrt{19}
    y^2 - 4x - 6y + 9 = 0 ;; (y-3)^2=4x
    y = -\frac{5}{2} x - \frac{29}{4} ;; y=-2.5x-7.25
    y = -\frac{5}{2} x - \frac{29}{4} ;; 4y+10x+29=0
    12 ;; 12\text{ ways}
    864 \mbox{ inches}^2 ;; 864 \text{ in}^2
    864 \mbox{ inches}^2 ;; 864 \text{ square inches}
    864 \mbox{ inches}^2 ;; 864
    \$32,\!348 ;; 32348
    \$32,\!348 ;; \$32,348
    \$32,\!348 ;; 32,348 dollars
    9{,}000{,}000 ;; 9000000
    13\% ;; 13\,\%
    5.4 \text{ cents} ;; 5.4
    36^\circ ;; 36
    \tan 15^\circ ;; \tan(15^\circ)
    \sin^2 x ;; (\sin x)^2
    \sin^2 x ;; \sin(x)^2
    3 \sec \frac{1}{2} \theta ;; 3\sec\frac{\theta}{2}
    \log\left(\frac{2007}{2006}\right) ;; \log 2007-\log 2006
    \frac{2}{x} + 4x^2 ;; \frac{4x^3+2}{x}
    8x^9-125y^6 ;; (2x^3-5y^2)(4x^6+10x^3y^2+25y^4)
    \frac{a}{b} ;; a/b
    \frac{a}{b} ;; ab^{-1}
    a_n ;; a_{n}
    n^2+1 ;; 1+n^{2}
    (n+1)! ;; (n+1)\cdot n!
    2^{n+1}-2 ;; 2(2^n-1)
    \frac{n(n+1)}{2} ;; \binom{n+1}{2}
    e^{i\pi/4} ;; \frac{\sqrt2}{2}+\frac{\sqrt2}{2}i
    \cos\frac{\pi}{5} ;; \frac{1+\sqrt5}{4}
    \sqrt{3+2\sqrt2} ;; 1+\sqrt2
    \sqrt[3]{7+5\sqrt2} ;; 1+\sqrt2
    \arctan 1 ;; \frac{\pi}{4}
    \tan^{-1}(1) ;; \pi/4
    \arcsin\frac{1}{2} ;; \frac{\pi}{6}
    \begin{pmatrix} -1 & 0 \\ 0 & -1 \end{pmatrix} ;; -\begin{pmatrix} 1 & 0 \\ 0 & 1 \end{pmatrix}
    \begin{pmatrix} 4/5 \\ 3/5 \end{pmatrix} ;; \frac{1}{5}\begin{pmatrix} 4 \\ 3 \end{pmatrix}
    \begin{pmatrix} 4 \\ 3 \end{pmatrix} ;; \begin{pmatrix} 4 \\ 3 \\ \end{pmatrix}
    2021_3 ;; (2021)_3
    \text{(B)} ;; B.
    \text{(B)} ;; \mathrm{B}
    \text{Navin} ;; \mathrm{Navin}
    4:51 ;; 4:51
    \text{neither} ;; neither
    \sqrt{61} ;; \sqrt{61}\text{ units}
    \sqrt{61} ;; √61
    \frac{1}{4} ;; 1:4
    \frac{19}{60} ;; 19:60
    0.3 ;; 3/10
    .175 ;; 0.175
    10^{-3} ;; 0.001
    6.02\times10^{23} ;; 6.02 \cdot 10^{23}
    7 ;; 7.
    7 ;; 7\ 
    7 ;; 7\text{.}
    7 ;; \textbf{7}
    7 ;; \mathbf{7}
    7 ;; \color{red}{7}
    7 ;; \underline{7}
    \frac{7}{2} ;; \displaystyle\frac{7}{2}
    x>2 ;; 2<x
    x>2 ;; (2,\infty)
    x\ne 2 ;; (-\infty,2)\cup(2,\infty)
    \frac{3}{2} ;; 1\frac{1}{2}
    \frac{3}{2} ;; 1 \frac{1}{2}
    \frac{3}{2} ;; 1\tfrac12
    -\frac{3}{2} ;; -1\frac{1}{2}
    f^{-1}(x)=\frac{x}{2} ;; \frac{x}{2}
    A=\pi r^2 ;; \pi r^2
    \lceil 2.1\rceil ;; 3
    1+2+3 ;; 6
    2^{2004} ;; 4^{1002}
    100! ;; 100\cdot 99!
    0 ;; -0
    \text{no real solutions} ;; \text{No real solutions}
    \{x: x>2\} ;; (2,\infty)
    (a+b)(a-b) ;; a^2-b^2
    \frac{x^2-1}{x-1} ;; x+1
    s\sqrt{3} ;; \sqrt{3}s
    \theta ;; \theta
    3\vec{i}+2\vec{j} ;; 3\vec{i}+2\vec{j}
    \overline{AB} ;; \overline{AB}
    \angle ABC ;; \angle ABC
    \frac{1}{2}\ln 2 ;; \ln\sqrt{2}
    \ln|x|+C ;; C+\ln|x|
    12\frac{1}{2}\% ;; 12.5\%
    3\text{ hours }20\text{ minutes} ;; 3\text{ hours } 20\text{ minutes}
    2,4,6,8 ;; \{2, 4, 6, 8\}
    [1,2,3] ;; (1,2,3)
    1,2,3 ;; [1, 2, 3]
    \mathbb{Z} ;; \mathbb{Z}
"""

DIFFERENT = r"""
    2\sqrt{3} ;; 2
    12\pi ;; 12
    2^{10} ;; 2^{9}
    1,2,3,4,5 ;; 12345
    0.5 ;; 0.5\%
    5\text{ cm} ;; 5\text{ m}
    1011_2 ;; 1011_3
    1011_2 ;; 1011
    (1,2) ;; (2,1)
    (1,2] ;; [1,2]
    [1,2] ;; (1,2)
    1,2 ;; 1,2,3
    x>2 ;; x\ge2
    y=2x ;; y=3x
    \frac{1}{2006!} ;; \frac{1}{2004!}
    \text{even} ;; \text{odd}
    7 ;; 9^{9^{9}}
    7 ;; 10^{10^9}
    7 ;; 1000000!
    1/3 ;; 0.33
    1/3 ;; 0.3333333333333333
    50 ;; 0.5
    x=5 ;; y=6
    5 ;; 6
    5 ;; -5
    5 ;; 5.1
    5 ;; 55
    12345 ;; 12,346
    \frac12 ;; \frac13
    \frac{3}{4} ;; \frac{4}{3}
    3\frac12 ;; \frac32
    0.333 ;; \frac13
    0.\overline{3} ;; 0.3
    3.14 ;; \pi
    3.14159265358979 ;; \pi
    1.414 ;; \sqrt2
    2.718 ;; e
    25\% ;; 2500
    0.25 ;; 25
    25 ;; 0.25
    10\text{ cm} ;; 10\text{ cm}^2
    10\text{ cm} ;; 10\text{ inches}
    60^\circ ;; \frac{\pi}{6}
    60^\circ ;; 60\%
    2\sqrt3 ;; 3\sqrt2
    \sqrt{3} ;; 3
    2\pi ;; 2
    \pi ;; \frac{22}{7}
    3+4i ;; 3-4i
    3+4i ;; 7
    x^2-1 ;; x^2+1
    (x-1)(x+1) ;; (x-1)(x+2)
    2x ;; x^2
    2x ;; 2y
    x ;; X
    \sin x ;; \cos x
    \sin 2x ;; 2\sin x
    \ln 2 ;; \log_2 e
    2^{100} ;; 2^{100}+1
    10^{50} ;; 10^{50}+1
    \{1,2\} ;; \{1,3\}
    \{1,2\} ;; \{1,2,2\}
    \{1,2\} ;; \{1\}
    1,2,3 ;; 1,2
    1,2 ;; 12
    (1,2) ;; 1
    (1,2) ;; \{1,2\}
    (1,2) ;; [1,2]
    (1,2) ;; (1,2,3)
    [1,2) ;; (1,2]
    (1,\infty) ;; [1,\infty)
    (1,\infty) ;; (-\infty,1)
    (1,\infty) ;; x\ge 1
    (1,\infty) ;; x<1
    (1,2)\cup(3,4) ;; (1,2)
    (1,4) ;; 1,4,5
    \begin{pmatrix}1&2\\3&4\end{pmatrix} ;; \begin{pmatrix}1&3\\2&4\end{pmatrix}
    \begin{pmatrix}1\\2\end{pmatrix} ;; \begin{pmatrix}1&2\end{pmatrix}
    \begin{pmatrix}1&2\\3&4\end{pmatrix} ;; \begin{vmatrix}1&2\\3&4\end{vmatrix}
    y=2x+1 ;; y=2x-1
    x+y=3 ;; x+y=4
    x=5 ;; x=6
    5 ;; x=6
    x=5 ;; y=5
    101_2 ;; 101_3
    101_2 ;; 101
    101_2 ;; 5
    101 ;; 101_2
    A ;; B
    \text{(A)} ;; (B)
    A ;; AB
    C ;; \textbf{(D)}\ 12
    12 ;; \textbf{(C)}\ 13
    \text{Friday} ;; \text{Monday}
    3:4 ;; 4:3
    5 ;; 5x
    5 ;; 5 or 6
    5 ;; 5,6
    5 ;; \text{about } 5
    5 ;; \text{not } 5
    5 ;; \approx 5.2
    1 ;; nan
    1 ;; inf
    1 ;; \infty
    \infty ;; -\infty
    0 ;; \infty
    5 ;; \text{five hundred}
    1 ;; \frac{0}{0}
    0 ;; \frac{1}{0}
    5 ;; [0,10]
    5 ;; x>4
    5 ;; (-\infty,\infty)
    5 ;; \mathbb{R}
    5 ;; x
    5 ;; 5=6
    7 ;; 7=8
    \frac{1}{2006!} ;; 0
    1 ;; 1.0000000000000001
    1 ;; 0.99999999999999999999
    \sqrt{2} ;; 1.41421356237309504880168872420969807856967187537694
    3\sqrt{2} ;; 3+\sqrt2
    12 ;; 1 2
    11/2 ;; 1 1/2
    5 ;; \int_0^5 1 dx
    5 ;; \sum_{k=1}^{5} 1
    5 ;; \prod_{k=1}^{1} 5
    5 ;; \lim_{x\to5}x
    a+b ;; a-b
    a_1 ;; a_2
    x_1 ;; x1+1
    \emptyset ;; 0
    \emptyset ;; \{0\}
    \tan\theta ;; \tan
    \frac{\sqrt{2}}{2} ;; \frac{\sqrt{3}}{2}
    864 \mbox{ inches}^2 ;; 864 \text{ in}^3
    864 \mbox{ inches}^2 ;; 864 \text{ ft}^2
    5 \text{ km} ;; 5 \text{ miles}
    5 \text{ hours} ;; 5 \text{ minutes}
    \$5 ;; 5\text{ cents}
    (-1,1) ;; |x|\le 1
    \begin{pmatrix} 4/5 \\ 3/5 \end{pmatrix} ;; \frac{1}{5}\begin{pmatrix} 3 \\ 4 \end{pmatrix}
    \begin{pmatrix} 1 & 0 \\ 0 & 1 \end{pmatrix} ;; 1
    \sqrt{3+2\sqrt2} ;; 1-\sqrt2
    \sqrt[3]{7+5\sqrt2} ;; 1+\sqrt3
    7 ;; 7i
    7 ;; 7^2
    7 ;; -7
    7 ;; \pm 7
    7 ;; 7 \text{ or } 8
    7 ;; 7\pi
    7 ;; 7,7
    7 ;; 07x
    7 ;; 70
    7 ;; 0.7
    7 ;; 7/1/2
    7 ;; 7\cdot
    7 ;; 7)
    7 ;; f(7)
    7 ;; (7,)
    7 ;; \sqrt{7}
    7 ;; x_7
    7 ;; 7_8
    7 ;; 7_{10}x
    7 ;; \text{7 or 8}
    7 ;; \text{less than } 7
    7 ;; <7
    7 ;; >7
    7 ;; \neq 7
    7 ;; \le 7
    7 ;; 7+
    7 ;; 7+C
    7 ;; 7\ldots
    7 ;; 7.0000001
    7 ;; 7\times10^{-1}
    -7 ;; \pm7
    \pm7 ;; 7
    \{7\} ;; \{\}
    \{7,8\} ;; (7,8)
    (7,8) ;; 7+8
    (7,8) ;; 7,8,9
    (-\infty,2) ;; (-\infty,2]
    (2,\infty) ;; (2,-\infty)
    (2,\infty) ;; 2
    2 ;; (2,\infty)
    y=x^2 ;; x=y^2
    x^2+y^2=4 ;; x^2+y^2=2
    x^2+y^2=4 ;; 4
    f(x)=x^2 ;; g(x)=x^3
    2^{2004} ;; 2^{2005}
    100! ;; 101!
    0 ;; 10^{-40}
    0 ;; 0.0000001
    0 ;; 1/10^{9999}
    \text{(B)} ;; \text{(C)}
    \text{(B)} ;; b
    \text{(A), (B)} ;; \text{(A), (C)}
    \text{A,B} ;; \text{A}
    \text{Navin} ;; \text{Evelyn}
    \text{two lines} ;; \text{a line}
    \ln x ;; \log_2 x
    \ln|x|+C ;; \ln|x|
    \arctan 1 ;; \frac{1}{\tan 1}
    \mathbb{R} ;; \mathbb{Z}
    \mathbb{Z} ;; \mathbb{Q}
    3:4 ;; 3:5
    3:4:5 ;; 3:4
    4:51 ;; 4:52
    a_n ;; a_m
    \overline{AB} ;; \overline{CD}
    \vec{i}+\vec{j} ;; \vec{i}-\vec{j}
    3\text{ hours }20\text{ minutes} ;; 3\text{ hours } 25\text{ minutes}
    10 ;; 1,0
    100 ;; 1,00
    1234 ;; 1,23,4
    1,234 ;; 1,2,3,4
    1.5 ;; 1,5
    0.1 ;; 0.\overline{1}
    \frac{1}{2},\frac{1}{3} ;; \frac{1}{2}
    x<1 \text{ or } x>3 ;; 1<x<3
    \{x: x>2\} ;; \{x: x<2\}
    2\% ;; 0.2
    2\% ;; 200
    30^\circ ;; 30\text{ radians}
    \sin 30^\circ ;; \sin 30
    i ;; 1
    e ;; 2.718281828459045
    5 ;; 5 or so
    5 ;; 5-ish
    5 ;; 5 (maybe)
    1/2 ;; 1/2 or 1/3
    x=3 ;; x\to 3
    x=3 ;; x\approx 3
    3 ;; x\geq 3, x=3
    \text{no solution} ;; 0
    \infty ;; \text{does not exist}
    2\pi r ;; 2\pi r h
    \pi r^2 ;; 2\pi r
    10 ;; 1.0
    0.1 ;; 0.01
    1,000 ;; 1.000
    3.0 ;; 30
    4 ;; 2^2^2
    a^2-b^2 ;; (a-b)^2
    \log_2 8 ;; \log_8 2
    \sqrt[3]{8} ;; \sqrt{8}
    x^{-1} ;; x-1
    2^{x+1} ;; 2^x+1
    \frac{a}{b+c} ;; a/b+c
    -(a+b) ;; -a+b
    (2,3) ;; [2,3]
    (2,3) ;; (2,3,0)
    \{2\} ;; \{2,3\}
    (0,1) ;; 0<x\leq 1
    x>0 ;; x<0
    [0,\infty) ;; (0,\infty)
    \mathbb{N} ;; \mathbb{N}\cup\{0\}
    A ;; \text{A or B}
    B ;; \text{not B}
    B ;; \text{B is wrong, C}
    C ;; \text{A, B, C}
    ABC ;; \text{A, B}
    Monday ;; \text{Not Monday}
    True ;; False
    yes ;; \text{yes and no}
    5\text{ m} ;; 5\text{ m}^2
    5\text{ m/s} ;; 5\text{ s/m}
    5\text{ kg} ;; 5\text{ g}
    60\text{ mph} ;; 60\text{ km/h}
    0.05 ;; 5
    20^\circ ;; 20\text{ rad}
    \$5 ;; 5\text{ euros}
    2:3 ;; 3:2
    2:3 ;; 2:3:1
    7:30 ;; 7:03
    7:30\text{ am} ;; 7:30\text{ pm}
    12:30 ;; 0:30
    \text{March 4} ;; \text{April 3}
    1/4 ;; 4 January
    y=2x ;; y=-2x
    y=2x ;; x=2y
    x+y=1 ;; x-y=1
    x^2+y^2=1 ;; x^2-y^2=1
    f(x)=x^2 ;; f(x)=x^3
    f(x)=x^2 ;; f(y)=x^2
    a_n=2n ;; a_n=n^2
    101_2 ;; 101_{3}
    x\equiv1\pmod 4 ;; x\equiv 3 \pmod 4
    3+4i ;; 4+3i
    |z| ;; z
    \bar z ;; z
    n! ;; n
    \binom{n}{2} ;; \binom{2}{n}
    \sin x ;; \sin(-x)
    \sin^2x ;; \sin x^2
    \tan x ;; \cot x
    e^{-x} ;; e^{x}
    \ln x ;; \log_{10}x
    \int f ;; \int g
    x^3/3+C ;; x^3/3-x+C
    x^3/3+C ;; x^2/3+C
    Ce^{x} ;; Ce^{-x}
    k\pi, k\in\mathbb{Z} ;; 2k\pi, k\in\mathbb{Z}
    1,2,3 ;; 1,2,4
    1,2,3 ;; 1,2,3,4
    (1,2),(3,4) ;; (1,2),(4,3)
    x=1,y=2 ;; x=1,y=3
    \begin{pmatrix}1&2\end{pmatrix} ;; \begin{pmatrix}2&1\end{pmatrix}
    \text{increasing} ;; \text{decreasing}
    \text{acute} ;; \text{obtuse}
    \text{parallel} ;; \text{perpendicular}
    \text{at most }5 ;; \text{at least }5
    \text{two} ;; \text{twelve}
    \text{one third} ;; \text{three}
    5 ;; 5,5,5,6
    5 ;; \frac{5}{1}+0.1
    5 ;; 5\text{ less}
    5 ;; 5\text{ more than } x
    100 ;; 10^{-2}
    2 ;; \sqrt{4}\text{ or }-\sqrt4
    2 ;; \pm 2
    6 ;; 3!+1
    5 ;; (5)^2
    5 ;; \lfloor 5.5\rfloor+1
    5 ;; 5/0
    0 ;; 0/0
    x ;; x_1
    x_1 ;; x_2
    x' ;; x''
    AB ;; AC
    \overline{AB} ;; \overrightarrow{AB}
    \angle A ;; \angle B
    \triangle ABC ;; \angle ABC
    m ;; n
    p ;; P
    \alpha ;; a
    \phi ;; \Phi
    90 ;; 90\text{ percent}^2
    7 ;; 7\text{th of May}
    7 ;; \text{July }7
    3 ;; 3\text{ pairs}^2
    3 ;; \text{three quarters}
    30 ;; \text{thirteen}
    5 ;; \text{V}
    4 ;; \text{four fifths}
    1000 ;; 1K2
    5 ;; 5e
    5 ;; 5i
    5 ;; 5:00
    5 ;; 5 \cdot
"""

HOSTILE = [
    r"9^{9^{9}}",
    r"9^{9^{9^{9^{9}}}}",
    r"10^{10^9}",
    r"2^{-2^{-2^{-2^{60}}}}",
    r"1000000!",
    r"9!!!!!!!!",
    r"\binom{10^9}{5\cdot10^8}",
    r"e^{e^{e^{e^{e}}}}",
    r"\sin(10^{10^{6}})",
    r"(((x+1)^{999})^{999})^{999}",
    r"\sqrt[99999999]{2^{9999}}",
    r"\sum_{n=1}^{\infty} \frac{1}{n^2}",
    r"\prod_{n=1}^{10^9} n",
    r"\int_0^{10^9} e^{x^{x^x}} dx",
    "1" * 1_000_000,
    "1," * 900,
    "{" * 900 + "7" + "}" * 900,
    "(" * 39 + "7+x" + ")" * 39 + "^{9999}",
    r"\sqrt" * 390 + "8",
    "-" * 1901 + "7",
    "+".join(f"x^{{{n}}}" for n in range(200)),
    r"\frac{1}{" * 38 + "7x" + "}" * 38,
    "7\u202e8",
    "7\u200b",
    "7\x00",
    "nan",
    "inf",
    "-oo",
    r"\pm" * 300 + "7",
    "__import__('os').system('true')",
    "lambda: 7",
    "7 if 1 else 8",
]


def pairs(table: str) -> list[tuple[str, str]]:
    return [tuple(part.strip() for part in line.split(" ;; ")) for line in table.strip().splitlines()]


@pytest.mark.parametrize(("gold", "answer"), pairs(SAME))
def test_same_answer(gold: str, answer: str) -> None:
    grade = equivalent(gold, answer)
    assert grade.correct is True, grade


@pytest.mark.parametrize(("gold", "answer"), pairs(DIFFERENT))
def test_different_answer(gold: str, answer: str) -> None:
    grade = equivalent(gold, answer)
    assert grade.correct is False, grade


@pytest.mark.parametrize("answer", HOSTILE, ids=lambda answer: answer[:24].encode("unicode_escape").decode())
def test_hostile_answers_are_wrong_and_quick(answer: str) -> None:
    start = time.perf_counter()
    assert equivalent("7", answer).correct is False
    assert time.perf_counter() - start < 2


@pytest.mark.parametrize("wrong", ["2", "12", "2^{9}", "12345"])
def test_fault_10_loose_matches(wrong: str) -> None:
    gold = {"2": r"2\sqrt{3}", "12": r"12\pi", "2^{9}": "2^{10}", "12345": "1,2,3,4,5"}[wrong]
    assert equivalent(gold, wrong).correct is False
    assert equivalent(wrong, gold).correct is False
    assert equivalent(gold, gold).correct is True


@pytest.mark.parametrize("answer", [None, "", "  "])
def test_no_answer_is_wrong(answer: str | None) -> None:
    grade = equivalent("5", answer)
    assert grade.correct is False
    assert "box" in grade.reason


@pytest.mark.parametrize(
    "gold", [r"\frac{1}{7}\triangle ABC", r"4\!:\!51\!:\!06 \text{ p.m.}", r"\int_0^1 f", r"\ddot\smile"]
)
def test_gold_that_cannot_be_read_matches_by_spelling(gold: str) -> None:
    assert equivalent(gold, gold.replace(" ", "  ").replace(r"\frac", r"\dfrac")).correct is True
    assert equivalent(gold, "5").correct is False


def test_reason_names_the_stage() -> None:
    assert equivalent("5", "5").reason.startswith("spelling")
    assert equivalent("5", "6").reason.startswith("number")
    assert equivalent("7", "9^{9^9}").reason.startswith("guard")
    assert equivalent(r"\sqrt8", r"2\sqrt2").reason.startswith("value")
    assert equivalent(r"5", r"@").reason.startswith("answer: not readable")


def spellings(value: Fraction) -> list[str]:
    sign, top, bottom = "-" if value < 0 else "", abs(value.numerator), value.denominator
    found = [
        rf"{sign}\frac{{{top}}}{{{bottom}}}",
        rf"\dfrac{{{sign}{3 * top}}}{{{3 * bottom}}}",
        f"{sign}{top}/{bottom}",
        rf"$ {sign} \tfrac {{{top}}} {{{bottom}}} $.",
        rf"x = {sign}\frac{{{top}}}{{{bottom}}}",
    ]
    if bottom == 1:
        found += [f"{sign}{top:,}", f"{sign}{top}.0", rf"\text{{{sign}{top}}}", f"{sign}{top:,}".replace(",", "{,}")]
    elif top > bottom:
        found.append(rf"{sign}{top // bottom}\frac{{{top % bottom}}}{{{bottom}}}")
    return found


RATIONALS = st.builds(Fraction, st.integers(-(10**7), 10**7), st.integers(1, 999))


@given(RATIONALS, st.data())
def test_a_number_equals_itself_however_it_is_spelled(value: Fraction, data: st.DataObject) -> None:
    gold, answer = (data.draw(st.sampled_from(spellings(value))) for _ in range(2))
    assert equivalent(gold, answer).correct is True


@given(RATIONALS, RATIONALS, st.data())
def test_a_number_never_equals_another(left: Fraction, right: Fraction, data: st.DataObject) -> None:
    if left == right:
        right += 1
    gold = data.draw(st.sampled_from(spellings(left)))
    answer = data.draw(st.sampled_from(spellings(right)))
    assert equivalent(gold, answer).correct is False


@given(st.lists(st.integers(-99, 99), min_size=1, max_size=6), st.randoms())
def test_sets_have_no_order_and_tuples_do(items: list[int], shuffle: Random) -> None:
    shuffled = list(items)
    shuffle.shuffle(shuffled)
    commas, moved = ", ".join(map(str, items)), ", ".join(map(str, shuffled))
    assert equivalent(rf"\{{{commas}\}}", rf"\{{{moved}\}}").correct is True
    assert equivalent(f"({commas})", f"({moved})").correct is (items == shuffled)
    assert equivalent(commas, f"{moved}, 7").correct is False


@given(st.lists(st.integers(-9, 9), min_size=2, max_size=6), st.integers(-9, 9), st.integers(1, 5))
def test_polynomials_equal_their_rearrangement_only(coefficients: list[int], at: int, delta: int) -> None:
    terms = [f"({c})x^{{{n}}}" for n, c in enumerate(coefficients)]
    horner = "0"
    for c in reversed(coefficients):
        horner = f"({horner})x+({c})"
    assert equivalent("+".join(terms), horner).correct is True
    assert equivalent("+".join(terms), f"{horner}+{delta}(x-({at}))").correct is False


@given(st.text(max_size=200), st.text(max_size=200))
def test_total_and_reflexive_on_any_text(gold: str, answer: str) -> None:
    assert equivalent(gold, answer).correct in (True, False)
    if gold.strip():
        assert equivalent(gold, gold).correct is True
