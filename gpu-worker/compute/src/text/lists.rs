//! Word lists, written without accents and in lower case (see `scan::fold`).
//!
//! Names and towns count only in a context; no word is hidden because it stands in a list.
//! Frequent names follow the public statistics of INSEE.

use std::collections::HashSet;
use std::sync::LazyLock;

type Set = LazyLock<HashSet<&'static str>>;

fn set(words: &'static str) -> HashSet<&'static str> {
    words.split_whitespace().collect()
}

/// Frequent given names of people who live in France.
pub(super) const GIVEN_NAMES: &str = "
    adam adele adrien agathe agnes ahmed aicha alain alban albert alex alexandra alexandre alexia
    alexis ali alice alicia aline alix ambre amelie amina amine amir anais andre andree anna anne
    annette annick annie anthony antoine antoinette antonio arlette armand arnaud arthur aurelie
    aurelien aurore axel axelle aya ayoub baptiste bastien beatrice benjamin benoit bernadette
    bernard berthe bertrand bilal blandine boris brahim brigitte bruno camille capucine carine
    carla carole caroline catherine cecile cedric celia celine chantal charlene charles charlotte
    chloe christelle christian christiane christine christophe claire clara claude claudette
    claudine clemence clement clementine cloe colette coralie corentin corinne cyril damien daniel
    daniele danielle david deborah delphine denis denise diane didier dimitri dominique dorian
    dylan edith edmond edouard elena eliane elias elif elina elisa elisabeth elise ella elodie
    eloise elsa emeline emile emilie emma emmanuel emmanuelle enzo eric erica erika ernest
    estelle esteban ethan etienne eugene eva evelyne fabien fabienne fabrice fanny farid fatima
    fatiha fatou felix fernand fernande fiona flavie florence florent florian francine francis
    franck francois francoise frederic frederique gabin gabriel gabrielle gael gaelle gaetan
    genevieve georges georgette gerald geraldine gerard germaine ghislaine gilbert gilberte gilles
    ginette gisele gregory guillaume gustave guy gwenaelle habib hamza hassan helene henri
    henriette herve hubert hugo hugues huguette ibrahim ilyes ines irene isabelle ismael issa
    jacqueline jacques jade jamal jean jeanne jeannine jennifer jeremy jerome jessica joachim jocelyne
    joel joelle johan johanna jonathan jordan joris jose josephine joseph josette josiane juan
    jules julia julie julien juliette justin justine kamel karim karima karine kenza kevin khadija
    killian laetitia lara laura laure laurence laurent lea leila lena leo leon leonie liam
    liliane lilou lina lisa loic lola lou louane louis louise luc luca lucas lucie lucien
    lucienne lucile ludivine ludovic lydia lydie mael maelle maelys magali malik malika malo
    manon manuel marc marcel marcelle margaux margot marguerite maria mariam mariama marianne marie
    marielle marine mario marion marjorie marlene martial martin martine maryse maryvonne mateo
    mathieu mathilde mathis matteo matthieu maurice max maxence maxime mehdi melanie melina
    melissa michael michel micheline michele mickael milan mireille mohamed mohammed monique morgan
    morgane moussa mouna mourad mustapha myriam nabil nadege nadia nadine naima naomi natacha
    nathalie nathan nicolas nicole nina ninon noa noe noel noemie nolan nora nour odette odile
    oceane olga olivia olivier omar oscar ousmane pascal pascale patrice patricia patrick paul
    paule paulette pauline perrine philippe pierre pierrette quentin rachel rachid rafael
    raoul raphael raymond raymonde rebecca regine regis remi remy rene renee richard robert
    roger roland rolande romain romane romain romeo ronan rosa rosalie rose roxane sabine sabrina
    salah salim salima salome samia samir samira samuel sandra sandrine sara sarah sebastien
    selma serge severine sidonie simon simone sofia sofiane solange solene sonia sophie stephane
    stephanie steven suzanne suzette sylvain sylvaine sylviane sylvie tanguy teo teresa tess
    theo theodore therese thibault thibaut thierry thomas tiago timeo timothee titouan tom tony
    tristan valentin valentine valerie vanessa veronique vicente victoire victor victoria vincent
    adeline adelaide aimee alberte alfred alphonse amandine amaury anastasia andrea angele angelina angelique
    annabelle anouk apolline aristide armelle astrid athena augustin auguste augustine aude audrey avril aymeric
    barbara bastian berengere bernadine bertille blaise brice brune carlos cassandra celeste cesar
    charlie chiara christel ciaran clarisse claudia clea cleo clotilde constance constantin cyprien cyrille
    dan danny daphne dario davy diego dina djamel djibril donatien doriane dorothee driss edgar edwige eglantine
    eleonore elea eliot elodia eloi emeline emeric emmy enora erwan erwann esther eudes eulalie euphrasie
    eveline fabiola faustine felicie fernando firmin flavien fleur florine foucauld francesca francis francky fredy
    gaelle gaspard gauthier gautier gerardine germain ghislain gladys goulven grace gregoire guenole guilhem gwendal
    gwendoline gwenola hakim hanna hannah hector heloise hermine hicham hippolyte honore hortense houda
    iban imane ingrid ines iris isaac isaure ismail ivan jacky jackie jacinthe jamila jan janine jawad jean-luc jeanine jeff
    jenny jeanne-marie jorge jordane joe joey josephe joseline josue joyce judith juliana julianne juste karen karl katia
    kelly kenny kilian klara khaled kylian ladislas lana lancelot latifa laetitia leandre leandra leane lenny leopold leslie
    levi lilian lilia lily linda lino lionel lisbeth loan logan lorena lorenzo loris lorraine louisa louison lounes lubin luciano
    ludmila luigi luis luna lydie maelenn maelle maeva magalie mahaut mahe mahmoud maia maite malick malika marceau marcelin
    marcelline marco margot margaux marguerite marjolaine marlon marta martial martha marwa maryam maryline mathias mathurin maud
    maurane mauricette maximilien maylis mayssa melchior melissa melody merlin meriem michelle mila milo mina mirabelle morgane moise
    myrtille naim naomie nassim nathanael nelly nestor nicole noah noemi nordine norbert norman nouria octave odilon olympe
    ombeline ophelie oriane orlane orphee oswald ouria pablo paola pedro perceval perrin pia pierrick pierre-yves priscilla prosper
    rayan rayane reda regina reine remi renaud ricardo rita robin rodolphe rodrigue rokia romaric romuald rosalie rosine roxanne
    sacha said saida salome salvatore sami samantha samy sandie sarra saskia sauveur savannah selena serena shana sibylle siham
    silvere solal solenne solenn soline soraya soumia souad steeve stella stephan suzel suzie sylvette tania tatiana teddy
    thais thelma theophile thibaud thomas tifenn timothe toussaint tugdual ugo ulysse urbain ursule valere valery victorien
    victorine vivien viviana vladimir wafa walid wassim wendy wilfried willy xaviere yacine yael yasin yazid yoan yohan yohann
    yolaine youri yseult ysaline yuna yvanne yvon zacharie zahra zakaria zelie zelia zita zohra zoubida maelle maena kenza aminata awa
    mamadou ibrahima cheikh oumar abdoulaye abdel abdelkader abdellah abderrahmane mounir nadir nawel ryad sofiane tarek yousra
    virginie viviane william xavier yacine yanis yann yannick yasmine yasmina yoann youssef
    yolande yvan yves yvette yvonne zineb zoe
";

/// Frequent surnames.
pub(super) const SURNAMES: &str = "
    adam albert alexandre allard andre antoine arnaud aubert aubry bailly barbier barre baron
    barthelemy baudry benard benoit berger bernard bertin bertrand besnard besson bigot blanc
    blanchard blanchet blondel bonnet bonneau bouchard boucher boulanger bourdon bourgeois bouvet bouvier
    boyer breton brun brunet buisson camus carlier caron carpentier carre charles charpentier
    charrier chauvin chevalier chevallier clement colin collet collin cordier cousin da-silva
    daniel david delannoy delattre delaunay delmas delorme deschamps descamps devaux dias diallo
    diop diarra didier dos-santos dubois ducros dufour dumas dumont dupont dupuis dupuy
    durand duval etienne evrard fabre faure favre fernandes fernandez ferrand ferreira fleury
    fontaine fournier francois gaillard garcia garnier gauthier gautier georges gerard germain
    gilbert gillet girard giraud gomes gomez goncalves gonzalez grand gregoire gros guerin
    guichard guillaume guillot guillou guyot hamel hamon hardy henry herve hoarau hubert huet
    humbert imbert jacob jacques jacquet jacquot janvier jean joly jourdan julien klein kone laborde
    lacroix lagarde lambert langlois laporte laroche laurent lebas leblanc lebon lebreton leclerc
    leclercq lecomte lefebvre lefevre legrand legros leger lejeune lemaire lemaitre lemoine lenoir
    leroux leroy lesage leveque levy lopes lopez louis lucas mace maillard mallet marchal
    marchand marechal marie marion martel martin martinez martins marty masson mathieu maurice
    maury menard mercier meunier meyer michaud michel millet monnier moreau moreira morel
    morin moulin muller navarro nguyen nicolas noel olivier ollivier paris pasquier paul payet
    pelletier pereira perez perret perrier perrin perrot petit petitjean philippe picard pichon
    pierre pinto poirier poulain prevost raymond regnier remy renard renaud renault rey reynaud
    ribeiro richard riviere robert robin roche rodrigues rodriguez roger rolland rousseau roussel
    rousset roux roy royer salmon sanchez santos schmitt schneider simon tanguy tessier texier
    thomas tournier traore tran vallee vallet vasseur verdier vidal vincent voisin wagner weber
    weiss benali belkacem haddad cisse camara ndiaye sow coulibaly keita toure yilmaz kaya
";

/// Towns with many inhabitants, and prefectures. Two-word names are joined by hyphens.
pub(super) const TOWNS: &str = "
    agen aix-en-provence ajaccio albi alencon ales amiens angers angouleme annecy antibes antony
    argenteuil arles arras asnieres-sur-seine aubagne aubervilliers auch aulnay-sous-bois aurillac
    auxerre avignon bastia bayonne beauvais belfort besancon beziers blois bobigny bordeaux
    boulogne-billancourt boulogne-sur-mer bourg-en-bresse bourges brest brive-la-gaillarde bron
    caen cahors calais cannes carcassonne castres cayenne cergy chalon-sur-saone
    chalons-en-champagne chambery champigny-sur-marne charleville-mezieres chartres chateauroux
    chaumont cherbourg cholet clamart clermont-ferrand clichy colmar colombes compiegne
    corbeil-essonnes courbevoie creil creteil digne-les-bains dieppe dijon douai drancy dreux
    dunkerque epinal evreux evry flers foix fort-de-france frejus gap gennevilliers grenoble
    gueret guingamp haguenau hyeres issy-les-moulineaux ivry-sur-seine la-rochelle
    la-roche-sur-yon la-seyne-sur-mer lannion laon laval le-havre le-mans le-puy-en-velay lens
    les-abymes levallois-perret lille limoges lisieux lons-le-saunier lorient lyon macon
    mamoudzou marseille martigues maubeuge meaux melun mende merignac metz millau montauban
    montelimar montlucon montpellier montreuil mont-de-marsan morlaix moulins mulhouse nancy
    nanterre nantes narbonne neuilly-sur-seine nevers nice nimes niort noisy-le-grand noumea orleans
    orsay palaiseau pantin papeete paris pau perigueux perpignan pessac plaisir poissy poitiers
    pointe-a-pitre pontivy pontoise privas quimper reims rennes roanne rodez roubaix rouen
    rueil-malmaison saint-brieuc saint-denis saint-etienne saint-germain-en-laye saint-lo
    saint-malo saint-maur-des-fosses saint-nazaire saint-ouen saint-paul saint-pierre
    saint-quentin saintes sarcelles sartrouville saverne sedan senlis sete sevran strasbourg
    suresnes tarbes thionville thonon-les-bains toulon toulouse tourcoing tours troyes tulle
    valence valenciennes vannes vaulx-en-velin venissieux verdun versailles vesoul vichy vienne
    villefranche-sur-saone villejuif villeneuve-d'ascq villeurbanne vincennes vitry-sur-seine
    vire vitre
";

/// Words that begin with a capital in letters and reports and are never part of a name.
const STOP: &str = "
    a abdomen absence accueil acte actes adresse adressee administration admis admise affaire
    age agee aide alors ami amie amicalement an analyse anatomie anesthesie anesthesiste
    angiologie ans antecedent antecedents appel apres aspect assistante attestation au aucun
    aucune aupres aux avec avis bien bilan biologie biologique biopsie bloc bonjour bonne ca
    cabinet cancer cancerologie cardiaque cardiologie cardiologique cardiologue car cas ce ceci cedex cela centre cerebral certificat ces
    cet cette ch chambre chef chere cher chez chirurgie chirurgical chirurgien chirurgienne chr
    chru chu civil civilite clinique code coeur commentaire commune comme compte comptes conclusion
    conduite confrere confreres conseil consultation consultations contact contexte controle cordialement copie
    correspondant cours courrier crane cr crh cro csarr d dans date dates de demande depuis dermatologie
    dernier derniere des desormais destinataire deux diabete diagnostic diagnostics directeur
    directrice docteur docteurs docteure document donc dont dossier douleur dr drs du duree e ecg
    echographie echo edition effectue ehpad el elle elles email en enfant entree entrant epouse equipe
    est et etablissement etait etat etude evolution examen examens externe fait fait famille fax
    femme fievre fin finess foie ghm garcon gynecologie gynecologue hdj helas hematologie histoire histologie homme
    hopital hopitaux hospice hospices hospitalier hospitaliere hospitalisation hospitalise
    hospitalisee hta identite il ils imagerie impression indication infirmier infirmiere information informations
    institut interne intervention interrogatoire ipp irm j jour je juillet janvier fevrier mars avril mai juin aout septembre octobre novembre
    decembre l la laboratoire le les lettre leur lieu lit ligne lors lundi mardi mercredi jeudi
    vendredi samedi dimanche m ma madame mademoiselle mail maintien maison maitre mais maladie me
    medecin medecins medecine medical medicale mes messieurs mesdames mise mission mlle mm mme mode mobile monsieur motif mr
    n naissance nait ne nee neant neurochirurgie neurologie neurologue ni nir nom non normal normale nos note notre nous
    numero objet observation on oncologie oncologue operateur ophtalmologie ordonnance origine orl orthopedie ou oui p page
    par patient patiente patients pathologie pathologiste pavillon pediatrie pediatre pendant permettez personne pharmacie pharmacien pneumologie
    pneumologue pole pour pr praticien precedent premiere premier prelevement prenom prescripteur
    prescription presence presente prise professeur professeure professeurs profession prof
    protocole psychiatre psychiatrie puis qu quand que qui radiographie radiologie radiologue rapport rdv re
    recu reference referent renseignements reanimation rhumatologie rhumatologue residence responsable resultat resultats
    resume retour rendez-vous rpps rue sa salle sans samu sage-femme scanner se secretaire secretariat securite sejour
    service services ses sexe si sig signature signe signes soins son sont sortant sortie sous specialite specialiste
    ssr stade suite suivi sur synthese systeme ta tdm tel telephone test tete thorax titre toujours
    traitement traitements traitant transmis tres trois type un une unite unites urgence urgences urologie urologue usage
    vers veuve veuillez vie visite votre vous vu vue x y
    connu connue aide-soignant externe decede decedee transfere transferee sortant sort entre
    hypertension insuffisance fibrillation pneumopathie infarctus accident embolie syndrome
    fracture anemie infection lesion nodule carcinome adenocarcinome tumeur lymphome
    metastase diabetique hypertendu tabagique fumeur fumeuse allergie allergique asthme bpco
    cirrhose depression epilepsie thrombose sepsis covid covid-19 grippe stable porteur porteuse
    inconnu inconnue anonyme renseigne masculin feminin
    homme femme nourrisson bebe adulte retraite retraitee mariee celibataire divorce
    divorcee nb ras rx iv im sc po vo aines
";

/// Surnames and given names that are also common words: repeated only next to a title, or in
/// capitals, or next to another part of the name.
const COMMON: &str = "
    ange aubry aurore avril barbier baron barre bas bel berger blanc blanche blond bois bon
    bonnet boucher boulanger bourgeois bras brun capucine caron carre cavalier chevalier claire
    clair clement colin colombe colon constant cordier cote court cousin couturier dos doux droit
    faible faure fleur fontaine fort france francois gaillard gauche gout grand grande gras gros grosse haut jeune joly jolie lacroix
    lac lambert large leger legere long luc main maigre marchand marechal marin marine masse
    menard mercier meunier mince mont moulin noir normand noel os page parent paris petit petite
    picard pied pierre poirier pont port poulain prudence renard riche rivier riviere robin roche rond rose rouge rousseau roux roy
    saint salmon sage sec vallee vert verte victoire vidal vieux violette voisin
    mars mai constance prime ambre jade iris
";

/// Names that medicine uses for diseases, scores and devices.
const EPONYMS: &str = "
    abrikossoff achille addison adson alport alzheimer apgar arnold babinski baker barlow barre
    barrett bartholin basedow beck behcet bell bence binet billroth bishop bouchard
    bouveret braden bright broca brodmann brown-sequard brudzinski budd-chiari buerger burkitt
    campylobacter charcot chiari child child-pugh chvostek clark claude-bernard-horner cockcroft
    colles coombs crohn cushing dandy-walker dequervain doppler douglas down dressler duchenne
    duke dukes dupuytren ebstein edwards ehlers-danlos eisenmenger epstein-barr evans ewing
    fallot fanconi faget foley fontan framingham froment frankel friedreich gaucher giemsa gilbert gilles gillet gleason glasgow
    glisson goodpasture gougerot graves grawitz guillain guillain-barre guyon hartmann hashimoto heberden henle
    henoch hirschsprung hodgkin hoffa hoffman holter homans horner horton huntington hutchinson
    jacksonienne jakob kaposi karnofsky katz kawasaki kehr kerley kernig killip kirschner
    klinefelter koch korsakoff krukenberg kussmaul lachman langerhans langhans lasegue legionella
    lewy lisfranc little lugol lund luschka lyell lyme lynch mallory mallory-weiss mantoux marfan
    mcburney meckel menetrier meniere mobitz moro monro morton muller murphy nissen norton osler
    paget pancoast papanicolaou parkinson parinaud peyronie phalen poisson pott prinzmetal
    purkinje quick quincke ramsay ranson raynaud recklinghausen reiter rendu rett rinne romberg
    rorschach roux schatzki scheuermann schonlein seldinger sézary sheehan simmonds sjogren spitz still
    stokes sydenham takayasu tanner tinel tourette trendelenburg turner valsalva vaquez virchow
    wagner waldenstrom wallenberg weber wegener wells wernicke wertheim whipple whitney willebrand
    willis wilms wilson winslow wolff wolff-parkinson-white zenker ziehl zollinger
";

/// Nouns before `de X` or `X` that make X a disease, score, place of the body or device.
const EPONYM_HEADS: &str = "
    aiguille algorithme anevrisme aneurisme angle anomalie arthrite ataxie anse appareil arcade bacille bandelette bassin batonnet bloc broche
    canal cardiomyopathie cartilage catheter cellule cellules choree cirrhose classe classification classifications clairance coloration conference consensus
    contracture corps corpuscule corpuscules courbe critere criteres croissance cycle degenerescence demence diverticule drain echelle
    ecarteur echec embout encephalopathie epreuve equation espace essai etude exostose
    faisceau fasciite fibres fistule foramen formule fracture fractures fossette ganglion ganglions glande glandes grade granulome
    hernie hiatus ilot ilots incision index indice intervention kyste ligament ligne loi lobe luxation lymphome
    maladie maladies malformation manoeuvre mal membrane methode morbus modele muscle nerf neurofibromatose nodule nodules noeud nomogramme
    oedeme onde operation orteil organe osteochondrite paralysie pavillon perforateur phenomene pied pince plaque plaques plan plexus
    point points polype ponction pontage position posture poudre pouls procedure projection prothese purpura psychose questionnaire
    rapport reaction recommandations recommandation reflexe regle repere reperes reseau resection rythme sarcome schema sclerose score scores
    sign signe signes sillon solution sonde sphincter stade stenose suture syndrome syndromes systeme
    tache technique tendon test tests tetralogie thermometre thrombose thyroidite traitement triade triangle
    trisomie trompe trompes trou tube tubercule tubercules tumeur tumeurs
    ulcere valve valvule veine virus voile volvulus zone
";

/// Particles inside surnames.
const PARTICLES: &str = "
    de du des d la le les l el al ben bin ibn abd abou van von der den ter ten di da do dos das
    del della y e san mac mc o saint st sainte
";

pub(super) static GIVEN: Set = LazyLock::new(|| set(GIVEN_NAMES));
pub(super) static SURNAME: Set = LazyLock::new(|| set(SURNAMES));
pub(super) static TOWN: Set = LazyLock::new(|| set(TOWNS));
pub(super) static STOPS: Set = LazyLock::new(|| set(STOP));
pub(super) static COMMONS: Set = LazyLock::new(|| set(COMMON));
pub(super) static EPONYM: Set = LazyLock::new(|| set(EPONYMS));
pub(super) static EPONYM_HEAD: Set = LazyLock::new(|| set(EPONYM_HEADS));
pub(super) static PARTICLE: Set = LazyLock::new(|| set(PARTICLES));

/// True for a given name, also a compound one (`jean-pierre`).
pub(super) fn is_given(folded: &str) -> bool {
    GIVEN.contains(folded)
        || (folded.contains('-') && folded.split('-').all(|part| GIVEN.contains(part)))
}

/// True for a frequent surname, also a compound one.
pub(super) fn is_surname(folded: &str) -> bool {
    SURNAME.contains(folded)
        || (folded.contains('-') && folded.split('-').any(|part| SURNAME.contains(part)))
}
